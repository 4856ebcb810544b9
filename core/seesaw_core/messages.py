"""Messages from a worker to router and operator: its state, its waves and its transitions.

The types are here since the parts never import each other. :mod:`seesaw_core.writing` writes them
as JSON, and :mod:`seesaw_core.reading` reads it. A field that a later version adds has a default,
so that both versions read each other. The text beside each field's type is its line in the
reference.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from seesaw_core.resharding.ledger import LedgerTotals
from seesaw_core.resharding.policy import Phase

VERSION: Final = 1
SIGNED: Final = "may be negative"  # marks the type of a number; all others are at least 0
WORD: Final = "is a word"  # marks a text of at most 64 printable characters


class ModeName(StrEnum):
    """The modes that this version knows."""

    RESHARDING = "resharding"
    STATIC = "static"
    ELASTIC = "elastic"


class Stage(StrEnum):
    """How far a worker is in its life. A worker has phases while it is ``serving``."""

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
    """Prompt tokens and requests so far, by path."""

    reshard_requests: Annotated[int, "Requests prefilled under the prefill layout."] = 0
    reshard_tokens: Annotated[int, "Their prompt tokens."] = 0
    in_place_requests: Annotated[int, "Requests prefilled by the decode engine."] = 0
    in_place_tokens: Annotated[int, "Their prompt tokens."] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTotals:
    """Requests answered so far. Their means describe the workload."""

    requests: Annotated[int, "Number of requests."] = 0
    prompt_tokens: Annotated[int, "Tokens of their prompts."] = 0
    output_tokens: Annotated[int, "Tokens of their answers."] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A layout or pair that the planner did not consider further."""

    layout: Annotated[str, "Such as `T8`, or `P8→T8` for a pair.", WORD]
    reason: Annotated[str, "Why it was rejected."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """Other layouts, predicted to serve the measured requests better."""

    prefill: Annotated[str, "The prefill layout.", WORD]
    decode: Annotated[str, "The decode layout; the same if it is better not to re-shard.", WORD]
    gain_percent: Annotated[int, "Predicted throughput above that of the layouts in force.", SIGNED]
    reason: Annotated[str, "The workload, and the throughput of both layouts under it."]
    prompt_tokens: Annotated[int, "Measured mean prompt, for `--plan-prompt-tokens`."]
    output_tokens: Annotated[int, "Measured mean answer, for `--plan-output-tokens`."]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """The plan under which a worker runs. Throughput is predicted under full load."""

    prefill: Annotated[str, "The prefill layout.", WORD]
    decode: Annotated[str, "The decode layout; the same if re-sharding does not pay off.", WORD]
    reason: Annotated[str, "Why these layouts were chosen."]
    accelerator: Annotated[str, "The device in the catalogue; empty if nothing is predicted."] = ""
    prompt_tokens: Annotated[int | None, "Mean prompt that the plan assumes."] = None
    output_tokens: Annotated[int | None, "Mean answer that the plan assumes."] = None
    predicted_tokens_per_s: Annotated[int | None, "Output tokens per second, predicted."] = None
    baseline_tokens_per_s: Annotated[
        int | None, "Output tokens per second of the best static layout, predicted."
    ] = None
    gain_percent: Annotated[int | None, "Throughput above the best static layout's.", SIGNED] = None
    num_running: Annotated[
        int | None, "Requests that must run at once to reach the predicted throughput."
    ] = None
    expected_tokens_per_s: Annotated[
        int | None,
        "Output tokens per second, predicted for the measured requests; null for the first 200.",
    ] = None
    rejected: Annotated[tuple[Rejection, ...], "Up to eight choices that were rejected."] = ()
    proposed: Annotated[Proposal | None, "A better choice for the measured requests."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReshardingState:
    """The part of a worker that re-shards: its phase, its two engines and the KV buffer."""

    phase: Annotated[Phase, "`prefill` or `decode`: which engine owns the devices."]
    phase_age_s: Annotated[float, "Seconds since this phase began."]
    reason: Annotated[str, "Why the policy took its last step, or why it waits."]
    prefill_layout: Annotated[str, "Such as `P2` for two pipeline stages.", WORD]
    decode_layout: Annotated[str, "Such as `T2` for two tensor-parallel ranks.", WORD]
    reshard: Annotated[str, "`auto`, `always` or `never`.", WORD]
    num_prefilling: Annotated[int, "Prompts inside the prefill engine."]
    num_decoding: Annotated[int, "Requests inside the decode engine, including loading ones."]
    transitions: Annotated[int, "Transitions so far, including those of the warm-up."]
    seconds_by_phase: Annotated[dict[str, float], "Seconds in each phase since the warm-up began."]
    buffer: Annotated[BufferState | None, "The KV buffer; null while loading."]
    paths: Annotated[PathTotals, "Requests and prompt tokens by path."]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticState:
    """The part of a worker that serves like plain vLLM."""

    layout: Annotated[str, "Such as `T2` for two tensor-parallel ranks.", WORD]


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticGroup:
    """A group of elastic instances in the middle of an iteration."""

    kind: Annotated[str, "`prefill`, `decode` or `migrate`.", WORD]
    instances: Annotated[tuple[int, ...], "Its instances."]
    num_requests: Annotated[int, "Requests in the iteration."]
    num_tokens: Annotated[int, "Tokens that it computes; 0 from a worker that does not say."] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticState:
    """The part of a worker whose instances form groups anew for every iteration."""

    capacity_tokens: Annotated[
        tuple[int, ...], "Tokens whose KV each instance can keep; 0 for one that is lost."
    ]
    free_tokens: Annotated[tuple[int, ...], "Tokens for which each has room."]
    lost_instances: Annotated[tuple[int, ...], "Instances that have died or hung."]
    groups: Annotated[tuple[ElasticGroup, ...], "Groups in the middle of an iteration."]
    num_running: Annotated[int, "Requests with KV in the pool."]
    prefills_by_degree: Annotated[
        dict[str, int], "Prefill iterations so far by the number of instances."
    ]
    decodes_by_degree: Annotated[
        dict[str, int], "Decode iterations so far by the number of instances."
    ]
    failed_iterations: Annotated[int, "Iterations that have failed so far."]
    preemptions: Annotated[int, "Requests so far that gave up their KV for others."]
    restarts: Annotated[int, "Requests so far that started again after a failure."]
    migrated_tokens: Annotated[int, "Tokens so far whose KV has moved between instances."]
    migrated_bytes: Annotated[int, "Bytes of their KV."] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerState:
    """The state of one worker, which ``/seesaw/state`` returns.

    Each mode has a part of its own, in the field of its name. A reader that does not know a
    worker's mode uses the other fields.
    """

    version: Annotated[int, "Version of this message. Readers take any, and ignore unknown fields."]
    mode: Annotated[
        str, "How the worker serves: `resharding`, `static`, `elastic`, or a later mode.", WORD
    ]
    stage: Annotated[Stage, "`starting`, `loading`, `serving`, `stalled`, `draining` or `broken`."]
    detail: Annotated[str, "The stage in words: what is loading, or why the worker broke."]
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
    elastic: Annotated[ElasticState | None, "The part of mode `elastic`, else null."] = None


class EventKind(StrEnum):
    """Kinds of events on ``/seesaw/events``."""

    STATE = "state"
    TRANSITION = "transition"
    WAVE = "wave"
    TIMELINE = "timeline"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionEvent:
    """One transition. The three parts add up to ``total_s``."""

    number: Annotated[int, "Counted from 1."]
    to: Annotated[Phase, "The phase that begins."]
    reason: Annotated[str, "Why the policy changed the phase."]
    pause_s: Annotated[float, "Seconds until the old engine's running step ended."]
    weights_s: Annotated[float, "Seconds in which the weights were copied."]
    resume_s: Annotated[float, "Seconds until the new engine could schedule."]
    total_s: Annotated[float, "Seconds from the decision until the new engine could step."]
    weight_bytes: Annotated[int, "Weight bytes copied, over all devices."]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveEvent:
    """One prefill phase that ended."""

    number: Annotated[int, "Counted from 1."]
    prompts: Annotated[int, "Prompts that it prefilled."]
    tokens: Annotated[int, "Their tokens."]
    seconds: Annotated[float, "Seconds from the transition before to the transition after."]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpan:
    """A time in which an elastic group was busy; decode iterations in a row are one span."""

    kind: Annotated[str, "`prefill`, `decode` or `migrate`.", WORD]
    instances: Annotated[tuple[int, ...], "The group's instances; their number is its degree."]
    num_iterations: Annotated[int, "Iterations in this time."]
    num_requests: Annotated[int, "Requests in each of them."]
    began_s: Annotated[float, "Unix time at which the first began."]
    ended_s: Annotated[float, "Unix time at which the last ended."]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSpan:
    """A time in which a request was on the same elastic instances."""

    number: Annotated[int, "Number of the request, counted from 1 as they are first computed."]
    kind: Annotated[str, "`prefill` while its prompt is computed, `decode` afterwards.", WORD]
    instances: Annotated[tuple[int, ...], "Instances that compute its prompt, or hold its KV."]
    num_tokens: Annotated[int, "Its tokens as this time began."]
    began_s: Annotated[float, "Unix time."]
    ended_s: Annotated[float, "Unix time."]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """What elastic groups and requests have done since the last event of this kind."""

    groups: Annotated[tuple[GroupSpan, ...], "Up to 64 of groups, in the order of their ends."]
    requests: Annotated[tuple[RequestSpan, ...], "Up to 64 of requests, likewise."]
    num_dropped: Annotated[int, "Further spans, which were too many for one event."] = 0
