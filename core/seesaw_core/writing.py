"""Writes the messages of :mod:`seesaw_core.messages` as JSON, so that older peers read them too.

Version 0 had no modes: all of a re-sharding worker's fields stood beside the stage, and its readers
want each of them. They stay until no such reader is left, and no reader of today looks at them.
"""

import dataclasses
from typing import Any, Final

from seesaw_core.messages import (
    PathTotals,
    ReshardingState,
    TransitionEvent,
    WaveEvent,
    WorkerState,
)
from seesaw_core.resharding.policy import Phase, Reshard
from seesaw_core.router_messages import RouterState

_WITHOUT_PHASES: Final = ReshardingState(
    phase=Phase.DECODE,
    phase_age_s=0.0,
    reason="",
    prefill_layout="",
    decode_layout="",
    reshard=Reshard.NEVER,
    num_prefilling=0,
    num_decoding=0,
    transitions=0,
    seconds_by_phase={},
    buffer=None,
    paths=PathTotals(),
)


def as_json(message: WorkerState | TransitionEvent | WaveEvent | RouterState) -> dict[str, Any]:
    """Returns a message as values of JSON, for readers of this version and of version 0."""
    if not isinstance(message, WorkerState):
        return dataclasses.asdict(message)
    part = message.resharding or _WITHOUT_PHASES
    if message.static is not None:
        layout = message.static.layout
        part = dataclasses.replace(part, prefill_layout=layout, decode_layout=layout)
    return dataclasses.asdict(part) | dataclasses.asdict(message)
