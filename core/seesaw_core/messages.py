"""What a worker tells router and operator: its state, its waves and its transitions.

Typed once, here, since the parts never import each other. All values are JSON by
``dataclasses.asdict``. What stands beside each field's type is its line in the reference.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

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
    """The KV buffer."""

    block_size: Annotated[int, "Tokens of a block."]
    block_bytes: Annotated[int, "Bytes of a block."]
    blocks: Annotated[
        LedgerTotals,
        "Blocks by state: `free`, `reserved` for prompts that are being prefilled, `stored`, "
        "`loading` into the decode engine; together `capacity`.",
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTotals:
    """Prompt tokens and requests so far, by the path that they took."""

    reshard_requests: Annotated[int, "Requests prefilled under the prefill layout."] = 0
    reshard_tokens: Annotated[int, "Their prompt tokens."] = 0
    in_place_requests: Annotated[int, "Requests prefilled by the decode engine."] = 0
    in_place_tokens: Annotated[int, "Their prompt tokens."] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker at one moment: what ``/seesaw/state`` returns."""

    stage: Annotated[Stage, "`starting`, `loading`, `serving`, `draining` or `broken`."]
    detail: Annotated[str, "The stage in words: what is being loaded, or why it broke."]
    phase: Annotated[str, "`prefill` or `decode`: whose turn on the devices it is."]
    phase_age_s: Annotated[float, "Seconds since this phase began."]
    reason: Annotated[str, "Why the policy took its last step, or what it waits for."]
    prefill_layout: Annotated[str, "Such as `P2` for two pipeline stages."]
    decode_layout: Annotated[str, "Such as `T2` for two tensor-parallel ranks."]
    reshard: Annotated[str, "`auto`, `always` or `never`."]
    num_waiting: Annotated[int, "Prompts that wait for a wave."]
    waiting_tokens: Annotated[int, "Their tokens."]
    num_prefilling: Annotated[int, "Prompts inside the prefill engine."]
    num_decoding: Annotated[int, "Requests inside the decode engine, loading ones included."]
    transitions: Annotated[int, "Hand-overs of the devices so far, those of the warm-up included."]
    seconds_by_phase: Annotated[dict[str, float], "Seconds in each phase since the warm-up began."]
    buffer: Annotated[BufferState | None, "The KV buffer; null while loading, or without one."]
    paths: Annotated[PathTotals, "Requests and prompt tokens by path."]


class EventKind(StrEnum):
    """What ``/seesaw/events`` can tell."""

    STATE = "state"
    TRANSITION = "transition"
    WAVE = "wave"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionEvent:
    """One hand-over of the devices. The three parts add up to ``total_s``."""

    number: Annotated[int, "Counted from 1."]
    to: Annotated[str, "The phase that gets the devices."]
    reason: Annotated[str, "Why the policy changed."]
    pause_s: Annotated[float, "Seconds until the old engine's running step had ended."]
    weights_s: Annotated[float, "Seconds of filling the arenas."]
    resume_s: Annotated[float, "Seconds until the new engine might schedule."]
    total_s: Annotated[float, "Seconds from the decision to the first step that may be taken."]
    weight_bytes: Annotated[int, "Weight bytes copied, over all devices."]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveEvent:
    """One prefill phase that ended."""

    number: Annotated[int, "Counted from 1."]
    prompts: Annotated[int, "How many it prefilled."]
    tokens: Annotated[int, "Their tokens."]
    seconds: Annotated[float, "From the hand-over before to the hand-over after."]
