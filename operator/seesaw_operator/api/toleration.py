"""Taints of nodes that pods put up with."""

from typing import Annotated, Literal

from pydantic import Field

from seesaw_operator.api.kinds import LabelKey, LabelValue
from seesaw_operator.api.model import ApiModel
from seesaw_operator.api.rules import Reason, Rule, rules


@rules(
    Rule(
        cel="has(self.key) || self.operator == 'Exists'",
        message="a toleration without key tolerates every taint: its operator must be Exists",
        path=".key",
        reason=Reason.REQUIRED,
    ),
    Rule(
        cel="!has(self.value) || self.operator == 'Equal'",
        message="operator Exists takes no value",
        path=".value",
        reason=Reason.FORBIDDEN,
    ),
    Rule(
        cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        message="tolerationSeconds goes with effect NoExecute only",
        path=".tolerationSeconds",
        reason=Reason.FORBIDDEN,
    ),
)
class Toleration(ApiModel):
    """A taint of nodes that pods put up with."""

    key: LabelKey | None = Field(
        default=None, description="The taint's key, such as 'nvidia.com/gpu'. Default: any."
    )
    operator: Literal["Equal", "Exists"] = Field(
        default="Equal", description="'Equal' compares the value, 'Exists' takes any."
    )
    value: LabelValue | None = Field(default=None, description="The taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect. Default: any."
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = Field(
        default=None, description="How long a NoExecute taint is put up with. Default: for good."
    )
