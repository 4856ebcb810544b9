"""Writes the messages of :mod:`seesaw_core.messages` as JSON that older peers can read too.

Version 0 had no modes: all fields of a re-sharding worker were beside the stage, and its readers
require each of them. The fields stay until no such reader is left. Current readers ignore them.
"""

import dataclasses
from typing import Any, Final

from seesaw_core.messages import (
    PathTotals,
    ReshardingState,
    TimelineEvent,
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


_Message = WorkerState | TransitionEvent | WaveEvent | TimelineEvent | RouterState


def as_json(message: _Message) -> dict[str, Any]:
    """Returns a message as values of JSON, for readers of this version and of version 0."""
    if not isinstance(message, WorkerState):
        return dataclasses.asdict(message)
    part = message.resharding or _WITHOUT_PHASES
    if message.static is not None:
        layout = message.static.layout
        part = dataclasses.replace(part, prefill_layout=layout, decode_layout=layout)
    return dataclasses.asdict(part) | dataclasses.asdict(message)
