"""``spec.parallelism`` and ``spec.planning``: the layouts, or what they are chosen for."""

from typing import Annotated, Literal

from pydantic import Field

from seesaw_operator.api.model import ApiModel
from seesaw_operator.api.rules import Reason, Rule, rules

Degree = Annotated[int, Field(ge=1, le=1024)]
MOST_INSTANCES = 64
MOST_TOKENS = 10_000_000
Tokens = Annotated[int, Field(ge=1, le=MOST_TOKENS)]


class Layout(ApiModel):
    """How the model is laid over the devices of a replica, tensor x pipeline x data of them."""

    tensor: Degree = Field(default=1, description="Tensor-parallel size.")
    pipeline: Degree = Field(default=1, description="Pipeline-parallel size.")
    data: Degree = Field(
        default=1,
        description="Data-parallel size: the number of engines that share the replica's devices, "
        "each on its own part. It is never switched, so it is the same in both layouts.",
    )


class Elastic(ApiModel):
    """Instances of the model that form groups anew for every iteration."""

    instances: Annotated[int, Field(ge=1, le=MOST_INSTANCES)] = Field(
        description="Number of instances of a replica, each of which holds the whole model.",
    )
    tensor: Degree = Field(
        default=1, description="Tensor-parallel size of each instance, which is its devices."
    )


@rules(
    Rule(
        cel="has(self.prefill) == has(self.decode)",
        message="give parallelism.prefill and parallelism.decode together, or neither",
        reason=Reason.REQUIRED,
    ),
    Rule(
        cel="!has(self.mode) || self.mode != 'Manual' || (has(self.prefill) && has(self.decode))",
        message="parallelism.mode Manual takes parallelism.prefill and parallelism.decode",
        path=".mode",
    ),
    Rule(
        cel="!has(self.mode) || self.mode != 'Auto' || !(has(self.prefill) || has(self.decode))",
        message="parallelism.mode Auto chooses the layouts: drop parallelism.prefill and "
        "parallelism.decode, or set the mode to Manual",
        path=".mode",
    ),
    Rule(
        cel="!has(self.mode) || self.mode != 'Elastic' || has(self.elastic)",
        message="parallelism.mode Elastic takes parallelism.elastic: give instances and tensor, "
        "such as elastic: {instances: 4, tensor: 2}",
        path=".mode",
    ),
    Rule(
        cel="!has(self.elastic) || (has(self.mode) && self.mode == 'Elastic')",
        message="parallelism.elastic goes with parallelism.mode Elastic: set the mode, or drop "
        "parallelism.elastic",
        path=".elastic",
        reason=Reason.FORBIDDEN,
    ),
    Rule(
        cel="!has(self.mode) || self.mode != 'Elastic' || !(has(self.prefill) || has(self.decode))",
        message="parallelism.mode Elastic does not re-shard: drop parallelism.prefill and "
        "parallelism.decode, or set the mode to Manual",
        path=".mode",
        reason=Reason.FORBIDDEN,
    ),
    Rule(
        cel="!has(self.prefill) || !has(self.decode) || self.prefill.data == self.decode.data",
        message="prefill.data and decode.data must be equal: data parallelism is never switched",
        path=".prefill.data",
    ),
    Rule(
        cel="!has(self.prefill) || !has(self.decode) || self.prefill.tensor * "
        "self.prefill.pipeline == self.decode.tensor * self.decode.pipeline",
        message="prefill and decode run on the same devices: prefill.tensor x prefill.pipeline "
        "must equal decode.tensor x decode.pipeline",
        path=".prefill",
    ),
)
class Parallelism(ApiModel):
    """How the workers use their devices: two layouts between which they re-shard, a choice that is
    left to the planner, or elastic instances."""

    mode: Literal["Auto", "Manual", "Elastic"] | None = Field(
        default=None,
        description="'Auto': the planner chooses the layouts from the model, the accelerator and "
        "'planning', or a static one where re-sharding does not pay. 'Manual': the layouts given "
        "here. 'Elastic': instances of the model that prefill long prompts together and decode "
        "apart, for prompts of very different lengths. Default: Manual if layouts are given, else "
        "Auto.",
    )
    prefill: Layout | None = Field(
        default=None, description="The layout under which prompts are prefilled."
    )
    decode: Layout | None = Field(
        default=None, description="The layout under which tokens are decoded."
    )
    elastic: Elastic | None = Field(
        default=None,
        description="The instances of mode Elastic: instances x tensor must equal "
        "accelerator.count.",
    )


class Planning(ApiModel):
    """The workload that the planner plans for, and how a better plan is approved."""

    approval: Literal["Manual", "Automatic"] = Field(
        default="Manual",
        description="What happens to a better plan for the requests received. 'Manual': it is "
        "proposed in status.plan.proposed and an Event. 'Automatic': it is applied as well, "
        "which replaces the workers one at a time.",
    )
    prompt_tokens: Tokens | None = Field(
        default=None,
        description="Mean prompt length in tokens; with Automatic approval, the initial one. "
        "Default: 1000.",
    )
    output_tokens: Tokens | None = Field(
        default=None,
        description="Mean answer length in tokens; with Automatic approval, the initial one. "
        "Default: 250.",
    )
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None,
        description="Requests that one replica serves at a time. Default: as many as fit.",
    )
