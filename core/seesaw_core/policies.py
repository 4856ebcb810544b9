"""What every serving mode's policy is: a pure function from a view to the next step.

Each mode has a view and steps of its own; :mod:`seesaw_core.resharding.policy` is the first.
"""

from typing import Protocol, TypeVar

ViewT = TypeVar("ViewT", contravariant=True)
StepT = TypeVar("StepT", covariant=True)


class Policy(Protocol[ViewT, StepT]):
    """Chooses what to do next. It holds no state and reads no clock."""

    def next_step(self, view: ViewT) -> StepT: ...
