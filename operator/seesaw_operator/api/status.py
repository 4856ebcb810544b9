"""``SeesawDeployment.status`` as users and other controllers read it."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from seesaw_operator.api.spec import ApiModel


class ConditionType(StrEnum):
    """What a condition is about. ``Ready`` sums up."""

    ACCEPTED = "Accepted"
    WORKERS_READY = "WorkersReady"
    ROUTER_READY = "RouterReady"
    PROGRESSING = "Progressing"
    READY = "Ready"
    DEGRADED = "Degraded"


class Condition(ApiModel):
    """One thing that is true, false or not known about the resource."""

    type: ConditionType = Field(description="What it is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it is so.")
    observed_generation: int = Field(description="The generation of the spec that was looked at.")
    last_transition_time: str = Field(
        description="When 'status' last changed.",
        json_schema_extra={"format": "date-time"},
    )
    reason: str = Field(description="Why, in one word for programs.")
    message: str = Field(max_length=32768, description="Why, for people, with the next step.")


class LayoutsInForce(ApiModel):
    """The layouts that the workers were given, in the short form T4P2."""

    prefill: str = Field(description="Of the prefill engine.")
    decode: str = Field(description="Of the decode engine.")


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


class Status(ApiModel):
    """What is."""

    observed_generation: int | None = Field(
        default=None, description="The generation of the spec that this status is about."
    )
    url: str | None = Field(default=None, description="The endpoint, inside the cluster.")
    replicas: int = Field(default=0, description="Worker pods that exist.")
    ready_replicas: int = Field(default=0, description="Worker pods that serve.")
    updated_replicas: int = Field(default=0, description="Worker pods that match the spec.")
    router_replicas: int = Field(default=0, description="Routers that serve.")
    selector: str | None = Field(default=None, description="Selects the worker pods.")
    layouts: LayoutsInForce | None = Field(default=None, description="The layouts in force.")
    measured: Measured | None = Field(default=None, description="What the workers report.")
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Accepted, WorkersReady, RouterReady, Progressing, Ready and Degraded.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
