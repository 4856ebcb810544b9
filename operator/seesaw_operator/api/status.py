"""``SeesawDeployment.status`` as users and other controllers read it."""

from collections.abc import Callable, Container
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from seesaw_operator.api.field_types import INT64
from seesaw_operator.api.model import ApiModel
from seesaw_operator.text import shortened

_MOST_WORD, _MOST_MESSAGE, _MOST_REJECTED, _MOST_CONDITIONS = 512, 32768, 64, 256


def _word(value: object) -> object:
    return shortened(value, _MOST_WORD) if isinstance(value, str) else value


def _message(value: object) -> object:
    return shortened(value, _MOST_MESSAGE) if isinstance(value, str) else value


def _first(most: int) -> Callable[[object], object]:
    return lambda value: value[:most] if isinstance(value, tuple | list) else value


# What is longer is shortened before it is written, so that no bound makes a write fail.
Word = Annotated[str, Field(max_length=_MOST_WORD), BeforeValidator(_word)]
Message = Annotated[str, Field(max_length=_MOST_MESSAGE), BeforeValidator(_message)]
Generation = Annotated[int, Field(json_schema_extra=INT64)]


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
    """One thing that is true, false or not known about the resource."""

    type: str = Field(description="What it is about.", json_schema_extra={"maxLength": 316})
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    observed_generation: Generation = Field(
        description="The generation of the spec that was looked at."
    )
    last_transition_time: Word = Field(
        description="When 'status' last changed.",
        json_schema_extra={"format": "date-time"},
    )
    reason: Word = Field(description="Why, in one word for programs.")
    message: Message = Field(description="Why, for people, with the next step.")


class LayoutsInForce(ApiModel):
    """The layouts that the workers were given, in the short form T4P2."""

    prefill: Word = Field(description="Of the prefill engine.")
    decode: Word = Field(description="Of the decode engine.")


class Measured(ApiModel):
    """What the workers report, summed over those that serve."""

    tokens_per_second: int = Field(
        description="Output tokens per second over about the last minute."
    )
    transitions: int = Field(description="Re-sharding transitions since the workers started.")
    waiting_requests: int = Field(description="Requests that wait for a wave.")
    running_requests: int = Field(description="Requests that are being prefilled or decoded.")
    buffer_used_percent: int = Field(description="How full the KV buffers are.")
    prefill_workers: int = Field(description="Workers that prefill at the moment.")
    prediction_error_percent: int | None = Field(
        default=None,
        description="How far 'tokensPerSecond' is from what the planner predicts for the requests "
        "that came, in percent of it; negative if it is less. Only while all workers have as many "
        "requests as the prediction is about.",
    )


class RejectedPlan(ApiModel):
    """A layout or pair that the planner did not consider further."""

    layout: Word = Field(description="Such as T8, or P8→T8 for a pair.")
    reason: Message = Field(description="Why not.")


class ProposedPlan(ApiModel):
    """Other layouts that would serve the requests that came better."""

    prefill: Word = Field(description="The prefill layout.")
    decode: Word = Field(description="The decode layout.")
    gain_percent: int = Field(description="Predicted throughput above that of those in force.")
    reason: Message = Field(description="The workload, and what both give it.")
    prompt_tokens: int = Field(description="Mean prompt measured, for planning.promptTokens.")
    output_tokens: int = Field(description="Mean answer measured, for planning.outputTokens.")


class AppliedWorkload(ApiModel):
    """The measured workload that the operator has applied by itself."""

    prompt_tokens: int = Field(description="Mean prompt.")
    output_tokens: int = Field(description="Mean answer.")
    instead_of: Word = Field(
        description="The lengths that spec.planning named then, such as 3000/250, or -/-. Once it "
        "names others, those hold."
    )


class Plan(ApiModel):
    """What the planner chose, as the first worker tells. Throughput is one loaded replica's."""

    prefill: Word = Field(description="The prefill layout.")
    decode: Word = Field(description="The decode layout; equal if re-sharding does not pay.")
    predicted_tokens_per_second: int | None = Field(
        default=None, description="Output tokens per second, predicted."
    )
    baseline_tokens_per_second: int | None = Field(
        default=None, description="Those of the best static layout, predicted."
    )
    gain_percent: int | None = Field(
        default=None, description="Predicted throughput above the best static layout's."
    )
    prompt_tokens: int | None = Field(default=None, description="Mean prompt planned for.")
    output_tokens: int | None = Field(default=None, description="Mean answer planned for.")
    reason: Message = Field(description="Why these layouts.")
    rejected: Annotated[
        tuple[RejectedPlan, ...],
        Field(max_length=_MOST_REJECTED),
        BeforeValidator(_first(_MOST_REJECTED)),
    ] = Field(default=(), description="Up to eight choices that were rejected.")
    proposed: ProposedPlan | None = Field(
        default=None, description="A better choice for the requests that came, if there is one."
    )
    applied: AppliedWorkload | None = Field(
        default=None, description="What planning.approval Automatic has applied."
    )


class Status(ApiModel):
    """What is."""

    observed_generation: Generation | None = Field(
        default=None, description="The generation of the spec that this status is about."
    )
    managed_by: Word | None = Field(
        default=None,
        description="The operator that looks after the resource, by the NAMESPACE/NAME of its "
        "Lease. Another one leaves it alone as long as that Lease is held.",
    )
    url: Word | None = Field(default=None, description="The endpoint, inside the cluster.")
    workers: Word | None = Field(
        default=None, description="Workers that serve, and how many are wanted, such as 1/2."
    )
    replicas: int = Field(default=0, description="Worker pods that exist.")
    ready_replicas: int = Field(default=0, description="Worker pods that serve.")
    updated_replicas: int = Field(default=0, description="Worker pods that match the spec.")
    router_replicas: int = Field(default=0, description="Routers that serve.")
    last_progress_time: Word | None = Field(
        default=None,
        description="When more pods last existed, matched the spec or served, or the spec changed.",
        json_schema_extra={"format": "date-time"},
    )
    selector: Word | None = Field(default=None, description="Selects the worker pods.")
    layouts: LayoutsInForce | None = Field(default=None, description="The layouts in force.")
    plan: Plan | None = Field(default=None, description="What the planner chose, where it chooses.")
    measured: Measured | None = Field(default=None, description="What the workers report.")
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
