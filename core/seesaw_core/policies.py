"""The interface of every serving mode's policy: a pure function from a view to the next step.

Each mode has its own view and steps; those of re-sharding are in
:mod:`seesaw_core.resharding.policy`.
"""

from typing import Protocol, TypeVar

ViewT_contra = TypeVar("ViewT_contra", contravariant=True)
StepT_co = TypeVar("StepT_co", covariant=True)


class Policy(Protocol[ViewT_contra, StepT_co]):
    """Chooses what to do next. It holds no state and reads no clock."""

    def next_step(self, view: ViewT_contra) -> StepT_co: ...
