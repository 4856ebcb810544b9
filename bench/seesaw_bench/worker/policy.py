"""A policy with which the benchmark decides when the phases change."""

from dataclasses import dataclass, field
from enum import Enum, auto

from seesaw_core.resharding.policy import (
    InPlace,
    Phase,
    PhasePolicy,
    Reshard,
    Step,
    Switch,
    View,
    Wait,
)


class Mode(Enum):
    """What the policy makes the controller do."""

    HOLD = auto()
    IN_PLACE = auto()
    RESHARD = auto()
    PREFILL = auto()


@dataclass(slots=True)
class ScriptedPolicy:
    """Implements ``Policy[View, Step]``. RESHARD uses the worker's own policy."""

    mode: Mode = Mode.IN_PLACE
    _own: PhasePolicy = field(
        default_factory=lambda: PhasePolicy(
            reshard=Reshard.ALWAYS, low_watermark=0.99, dwell_transitions=0.0
        )
    )

    def next_step(self, view: View) -> Step:
        if self.mode is Mode.RESHARD:
            return self._own.next_step(view)
        wanted = Phase.PREFILL if self.mode is Mode.PREFILL else Phase.DECODE
        if view.phase is not wanted:
            return Switch(to=wanted, reason="the benchmark wants it")
        if self.mode is Mode.IN_PLACE and view.waiting:
            prompts = tuple(prompt.key for prompt in view.waiting)
            return InPlace(prompts=prompts, reason="the benchmark wants it")
        return Wait(at_most_s=None, reason="the benchmark holds")
