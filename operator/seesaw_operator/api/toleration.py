"""Tolerations: taints of nodes on which pods may run all the same."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from seesaw_operator.api.field_types import OptionalLabelKey, OptionalLabelValue
from seesaw_operator.api.model import ApiModel
from seesaw_operator.api.rules import Reason, Rule, rules

_Operator = Literal["Equal", "Exists"]
_Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
_EXISTS = "(has(self.operator) && self.operator == 'Exists')"


@rules(
    Rule(
        cel=f"(has(self.key) && self.key != '') || {_EXISTS}",
        message="a toleration without key tolerates every taint: its operator must be Exists",
        path=".key",
        reason=Reason.REQUIRED,
    ),
    Rule(
        cel=f"!has(self.value) || self.value == '' || !{_EXISTS}",
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
    """A toleration of a node's taint. An empty string counts as not set."""

    key: OptionalLabelKey = Field(
        default=None, description="The taint's key, such as 'nvidia.com/gpu'. Default: any."
    )
    operator: Annotated[_Operator | None, BeforeValidator(lambda value: value or None)] = Field(
        default=None,
        description="'Equal', the default, compares the value; 'Exists' matches any value.",
        json_schema_extra={"enum": [*get_args(_Operator), ""]},
    )
    value: OptionalLabelValue = Field(default=None, description="The taint's value.")
    effect: Annotated[_Effect | None, BeforeValidator(lambda value: value or None)] = Field(
        default=None,
        description="The taint's effect. Default: any.",
        json_schema_extra={"enum": [*get_args(_Effect), ""]},
    )
    toleration_seconds: Annotated[int, Field(ge=0, le=1_000_000_000)] | None = Field(
        default=None, description="How long a NoExecute taint is tolerated. Default: for ever."
    )
