"""``SeesawDeployment.status`` as users and other controllers read it."""

from collections.abc import Callable, Container
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from seesaw_operator.api.field_types import INT64
from seesaw_operator.api.model import ApiModel
from seesaw_operator.api.parallelism import MOST_INSTANCES
from seesaw_operator.text import shortened

_MOST_WORD, _MOST_MESSAGE, _MOST_REJECTED, _MOST_CONDITIONS = 512, 32768, 64, 256
MOST_ELASTIC_WORKERS = 16


def _word(value: object) -> object:
    return shortened(value, _MOST_WORD) if isinstance(value, str) else value


def _message(value: object) -> object:
    return shortened(value, _MOST_MESSAGE) if isinstance(value, str) else value


def _first(most: int) -> Callable[[object], object]:
    return lambda value: value[:most] if isinstance(value, tuple | list) else value


# Longer texts are shortened before they are written, so that no bound makes a write fail.
Word = Annotated[str, Field(max_length=_MOST_WORD), BeforeValidator(_word)]
Message = Annotated[str, Field(max_length=_MOST_MESSAGE), BeforeValidator(_message)]
Generation = Annotated[int, Field(json_schema_extra=INT64)]
Count = Annotated[int, Field(json_schema_extra=INT64)]


class ConditionType(StrEnum):
    """The conditions of the resource as a whole. Each component has one more.

    ``Ready``: everything matches the latest spec and serves. ``Available``: the endpoint serves.
    ``Reconciling`` and ``Stalled`` are those of kstatus, from which tools learn that a rollout has
    ended.
    """

    ACCEPTED = "Accepted"
    AVAILABLE = "Available"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    DEGRADED = "Degraded"


class Condition(ApiModel):
    """One statement about the resource that is true, false or unknown."""

    type: str = Field(
        description="The statement that the condition makes.", json_schema_extra={"maxLength": 316}
    )
    status: Literal["True", "False", "Unknown"] = Field(
        description="Whether the statement is true."
    )
    observed_generation: Generation = Field(
        description="The generation of the spec that the condition is about."
    )
    last_transition_time: Word = Field(
        description="When 'status' last changed.",
        json_schema_extra={"format": "date-time"},
    )
    reason: Word = Field(description="The cause in one word, for programs.")
    message: Message = Field(description="The cause and the next step, for people.")


class LayoutsInForce(ApiModel):
    """The layouts of the workers, in the short form T4P2."""

    prefill: Word = Field(description="The layout of the prefill engine.")
    decode: Word = Field(description="The layout of the decode engine.")


class IterationCounts(ApiModel):
    """Iterations of groups of one size."""

    degree: int = Field(description="Number of instances in the group.")
    prefills: Count = Field(description="Iterations that prefilled prompts.")
    decodes: Count = Field(description="Iterations that decoded a token of some requests.")


class ElasticWorker(ApiModel):
    """The instances of one worker."""

    pod: Word = Field(description="The pod.")
    lost: Annotated[tuple[int, ...], Field(max_length=MOST_INSTANCES)] = Field(
        default=(),
        description="The instances that have died or hung, by their numbers. They come back when "
        "the pod is replaced.",
    )
    kv_used_percent: Annotated[tuple[int, ...], Field(max_length=MOST_INSTANCES)] = Field(
        description="Share of each instance's room for KV in use, by the instance's number; 0 for "
        "one that is lost."
    )


class ElasticFigures(ApiModel):
    """What workers with elastic instances report, over all that serve."""

    instances: Word = Field(description="Instances that serve and all instances, such as 7/8.")
    lost_instances: int = Field(description="Instances that have died or hung.")
    iterations: Annotated[tuple[IterationCounts, ...], Field(max_length=MOST_INSTANCES)] = Field(
        default=(),
        description="Iterations since the workers started, by the number of instances that "
        "carried them out together.",
    )
    migrated_bytes: Count = Field(
        description="Bytes of KV that have moved between instances since the workers started. "
        "Groups that shrink or grow move none."
    )
    workers: Annotated[tuple[ElasticWorker, ...], Field(max_length=MOST_ELASTIC_WORKERS)] = Field(
        default=(),
        description="Up to 16 workers, those that have lost instances first.",
    )


class Measured(ApiModel):
    """Figures that the workers report, summed over those that serve."""

    tokens_per_second: int = Field(
        description="Output tokens per second over the last minute or so."
    )
    transitions: int = Field(description="Re-sharding transitions since the workers started.")
    waiting_requests: int = Field(description="Requests that wait for a prefill wave.")
    running_requests: int = Field(description="Requests that are being prefilled or decoded.")
    buffer_used_percent: int = Field(description="Share of the KV buffers in use.")
    prefill_workers: int = Field(description="Workers in a prefill phase.")
    prediction_error_percent: int | None = Field(
        default=None,
        description="Deviation of 'tokensPerSecond' from the planner's prediction for the requests "
        "received, in percent of the prediction; negative if fewer tokens are generated. Present "
        "only while all workers have as many requests as the prediction assumes.",
    )
    elastic: ElasticFigures | None = Field(
        default=None, description="The instances of workers in mode Elastic."
    )


class RejectedPlan(ApiModel):
    """A layout or a pair of layouts that the planner rejected."""

    layout: Word = Field(description="The layout, such as T8, or the pair, such as P8→T8.")
    reason: Message = Field(description="Why the planner rejected it.")


class ProposedPlan(ApiModel):
    """Layouts that are predicted to serve the requests received better."""

    prefill: Word = Field(description="The prefill layout.")
    decode: Word = Field(description="The decode layout.")
    gain_percent: int = Field(description="Predicted gain in throughput over the layouts in force.")
    reason: Message = Field(
        description="The measured workload, and the predicted throughput of both."
    )
    prompt_tokens: int = Field(
        description="Measured mean prompt length, for planning.promptTokens."
    )
    output_tokens: int = Field(
        description="Measured mean answer length, for planning.outputTokens."
    )


class AppliedWorkload(ApiModel):
    """The measured workload that the operator has applied automatically."""

    prompt_tokens: int = Field(description="Mean prompt length.")
    output_tokens: int = Field(description="Mean answer length.")
    instead_of: Word = Field(
        description="The lengths in spec.planning when this was applied, such as 3000/250, or "
        "-/- for none. Once spec.planning names others, those hold.",
    )


class Plan(ApiModel):
    """The planner's choice, as the first worker reports it. Throughput is per loaded replica."""

    prefill: Word = Field(description="The prefill layout.")
    decode: Word = Field(
        description="The decode layout; the same as the prefill layout if re-sharding does not pay."
    )
    predicted_tokens_per_second: int | None = Field(
        default=None, description="Predicted output tokens per second."
    )
    baseline_tokens_per_second: int | None = Field(
        default=None, description="Predicted output tokens per second of the best static layout."
    )
    gain_percent: int | None = Field(
        default=None, description="Predicted gain in throughput over the best static layout."
    )
    prompt_tokens: int | None = Field(
        default=None, description="Mean prompt length that was planned for."
    )
    output_tokens: int | None = Field(
        default=None, description="Mean answer length that was planned for."
    )
    reason: Message = Field(description="Why the planner chose these layouts.")
    rejected: Annotated[
        tuple[RejectedPlan, ...],
        Field(max_length=_MOST_REJECTED),
        BeforeValidator(_first(_MOST_REJECTED)),
    ] = Field(default=(), description="Up to eight rejected choices.")
    proposed: ProposedPlan | None = Field(
        default=None, description="A better choice for the requests received, if there is one."
    )
    applied: AppliedWorkload | None = Field(
        default=None, description="The workload that planning.approval Automatic has applied."
    )


class Status(ApiModel):
    """The observed state."""

    observed_generation: Generation | None = Field(
        default=None, description="The generation of the spec that this status is about."
    )
    managed_by: Word | None = Field(
        default=None,
        description="The operator that manages the resource, by the NAMESPACE/NAME of its Lease. "
        "Other operators ignore the resource as long as that Lease is held.",
    )
    url: Word | None = Field(default=None, description="The endpoint inside the cluster.")
    workers: Word | None = Field(
        default=None, description="Serving and desired workers, such as 1/2."
    )
    replicas: int = Field(default=0, description="Worker pods that exist.")
    ready_replicas: int = Field(default=0, description="Worker pods that serve.")
    updated_replicas: int = Field(default=0, description="Worker pods that match the spec.")
    router_replicas: int = Field(default=0, description="Routers that serve.")
    last_progress_time: Word | None = Field(
        default=None,
        description="When the number of pods that exist, match the spec or serve last grew, or "
        "the spec last changed.",
        json_schema_extra={"format": "date-time"},
    )
    selector: Word | None = Field(
        default=None, description="The label selector of the worker pods."
    )
    layouts: LayoutsInForce | None = Field(default=None, description="The layouts in force.")
    plan: Plan | None = Field(
        default=None, description="The planner's choice, where it chooses the layouts."
    )
    measured: Measured | None = Field(default=None, description="Figures that the workers report.")
    conditions: Annotated[
        tuple[Condition, ...],
        Field(max_length=_MOST_CONDITIONS),
        BeforeValidator(_first(_MOST_CONDITIONS)),
    ] = Field(
        default=(),
        description="Accepted, WorkersReady, RouterReady, Available, Ready, Reconciling, Stalled "
        "and Degraded.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )


def read_status(written: Any, condition_types: Container[str]) -> Status:
    """Return the status that was written last, as far as it can be read.

    Another version of the operator may have written the rest, and other controllers may have added
    conditions of their own: only those of the given types are kept.
    """
    parts = dict(written or {})
    conditions = [
        each
        for each in parts.pop("conditions", None) or ()
        if _is_valid({"conditions": [each]}) and each["type"] in condition_types
    ]
    valid = {name: part for name, part in parts.items() if _is_valid({name: part})}
    return Status.model_validate(valid | {"conditions": conditions})


def _is_valid(part: dict[str, Any]) -> bool:
    try:
        Status.model_validate(part)
    except ValidationError:
        return False
    return True
