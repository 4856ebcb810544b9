"""What a worker tells router and operator: its state, its waves and its transitions.

Typed once, here, since the parts never import each other. :mod:`seesaw_core.writing` makes JSON
of them, :mod:`seesaw_core.reading` reads it back. A field that a later version adds has a default,
so that both versions read each other. What stands beside each field's type is its line in the
reference.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from seesaw_core.resharding.ledger import LedgerTotals
from seesaw_core.resharding.policy import Phase

VERSION: Final = 1
SIGNED: Final = "may be negative"  # beside the type of a number; all others are at least 0


class ModeName(StrEnum):
    """The modes that this version knows."""

    RESHARDING = "resharding"
    STATIC = "static"


class Stage(StrEnum):
    """How far a worker has come. Not a phase: a serving worker has phases."""

    STARTING = "starting"
    LOADING = "loading"
    SERVING = "serving"
    STALLED = "stalled"
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
class FinishedTotals:
    """Requests that have been answered so far. Their means are the workload that came."""

    requests: Annotated[int, "How many."] = 0
    prompt_tokens: Annotated[int, "Their prompts' tokens."] = 0
    output_tokens: Annotated[int, "Their answers' tokens."] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A layout or pair that the planner did not consider further."""

    layout: Annotated[str, "Such as `T8`, or `P8→T8` for a pair."]
    reason: Annotated[str, "Why not."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Other layouts that would serve the requests that came better."""

    prefill: Annotated[str, "The prefill layout."]
    decode: Annotated[str, "The decode layout; equal if it is better not to re-shard."]
    gain_percent: Annotated[int, "Predicted throughput above that of the layouts in force.", SIGNED]
    reason: Annotated[str, "The workload, and what both give it."]
    prompt_tokens: Annotated[int, "Mean prompt that was measured: `--plan-prompt-tokens`."]
    output_tokens: Annotated[int, "Mean answer that was measured: `--plan-output-tokens`."]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """The planner's answer under which a worker runs. Throughput is predicted under full load."""

    prefill: Annotated[str, "The prefill layout."]
    decode: Annotated[str, "The decode layout; equal if re-sharding does not pay."]
    reason: Annotated[str, "Why these."]
    accelerator: Annotated[str, "The device in the catalogue; empty if nothing is predicted."] = ""
    prompt_tokens: Annotated[int | None, "Mean prompt that it is planned for."] = None
    output_tokens: Annotated[int | None, "Mean answer that it is planned for."] = None
    predicted_tokens_per_s: Annotated[int | None, "Output tokens per second, predicted."] = None
    baseline_tokens_per_s: Annotated[int | None, "Those of the best static layout."] = None
    gain_percent: Annotated[int | None, "Throughput above the best static layout's.", SIGNED] = None
    num_running: Annotated[int | None, "Requests that must run at once for it."] = None
    expected_tokens_per_s: Annotated[
        int | None,
        "Output tokens per second predicted for the requests that came; null for the first 200.",
    ] = None
    rejected: Annotated[tuple[Rejection, ...], "Up to eight choices that were rejected."] = ()
    proposed: Annotated[Proposal | None, "A better choice for the requests that came."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReshardingState:
    """The part of a worker that re-shards: its phase, its two engines and the KV buffer."""

    phase: Annotated[Phase, "`prefill` or `decode`: whose turn on the devices it is."]
    phase_age_s: Annotated[float, "Seconds since this phase began."]
    reason: Annotated[str, "Why the policy took its last step, or what it waits for."]
    prefill_layout: Annotated[str, "Such as `P2` for two pipeline stages."]
    decode_layout: Annotated[str, "Such as `T2` for two tensor-parallel ranks."]
    reshard: Annotated[str, "`auto`, `always` or `never`."]
    num_prefilling: Annotated[int, "Prompts inside the prefill engine."]
    num_decoding: Annotated[int, "Requests inside the decode engine, loading ones included."]
    transitions: Annotated[int, "Hand-overs of the devices so far, those of the warm-up included."]
    seconds_by_phase: Annotated[dict[str, float], "Seconds in each phase since the warm-up began."]
    buffer: Annotated[BufferState | None, "The KV buffer; null while loading."]
    paths: Annotated[PathTotals, "Requests and prompt tokens by path."]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticState:
    """The part of a worker that serves as plain vLLM does."""

    layout: Annotated[str, "Such as `T2` for two tensor-parallel ranks."]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """One worker at one moment: what ``/seesaw/state`` returns.

    A mode has a part of its own, in the field of its name. A reader that does not know a worker's
    mode goes by the other fields.
    """

    version: Annotated[int, "Version of this message. Readers take any, and ignore unknown fields."]
    mode: Annotated[str, "How the worker serves: `resharding`, `static`, or one yet to come."]
    stage: Annotated[Stage, "`starting`, `loading`, `serving`, `stalled`, `draining` or `broken`."]
    detail: Annotated[str, "The stage in words: what is being loaded, or why it broke."]
    num_waiting: Annotated[int, "Prompts that wait for a wave."]
    waiting_tokens: Annotated[int, "Their tokens."]
    finished: Annotated[FinishedTotals, "Requests answered so far."] = FinishedTotals()
    plan: Annotated[PlanSummary | None, "The plan in force; null without `--parallelism auto`."] = (
        None
    )
    resharding: Annotated[ReshardingState | None, "The part of mode `resharding`, else null."] = (
        None
    )
    static: Annotated[StaticState | None, "The part of mode `static`, else null."] = None


class EventKind(StrEnum):
    """What ``/seesaw/events`` can tell."""

    STATE = "state"
    TRANSITION = "transition"
    WAVE = "wave"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionEvent:
    """One hand-over of the devices. The three parts add up to ``total_s``."""

    number: Annotated[int, "Counted from 1."]
    to: Annotated[Phase, "The phase that gets the devices."]
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
