"""What a worker tells router and operator: its state, its waves and its transitions.

Typed once, here, since the parts never import each other. All values are JSON by
``dataclasses.asdict``.
"""

from dataclasses import dataclass
from enum import StrEnum

from seesaw_core.ledger import LedgerTotals


class Stage(StrEnum):
    """How far a worker has come. Not a phase: a serving worker has phases."""

    STARTING = "starting"
    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferState:
    """The KV buffer. Units: bytes; ``block_size`` in tokens."""

    block_size: int
    block_bytes: int
    blocks: LedgerTotals


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTotals:
    """Prompt tokens and requests so far, by the path that they took."""

    reshard_requests: int = 0
    reshard_tokens: int = 0
    in_place_requests: int = 0
    in_place_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker at one moment: what ``/seesaw/state`` returns.

    ``phase`` is ``prefill`` or ``decode``. Units: seconds since the worker began to serve.
    """

    stage: Stage
    detail: str
    phase: str
    phase_age_s: float
    prefill_layout: str
    decode_layout: str
    reshard: str
    num_waiting: int
    waiting_tokens: int
    num_prefilling: int
    num_decoding: int
    transitions: int
    seconds_by_phase: dict[str, float]
    buffer: BufferState | None
    paths: PathTotals


class EventKind(StrEnum):
    """What ``/seesaw/events`` can tell."""

    STATE = "state"
    TRANSITION = "transition"
    WAVE = "wave"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionEvent:
    """One hand-over of the devices.

    ``total_s`` runs from the decision, through the end of the old engine's step, to the first
    step that the new engine may take; the parts add up to it. Units: seconds;
    ``weight_bytes`` over all devices.
    """

    number: int
    to: str
    reason: str
    pause_s: float
    weights_s: float
    resume_s: float
    total_s: float
    weight_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveEvent:
    """One prefill phase that ended: how much it prefilled and how long it took."""

    number: int
    prompts: int
    tokens: int
    seconds: float
