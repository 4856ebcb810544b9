"""``SeesawDeployment.spec`` as users write it. The CRD's schema is generated from these models.

Every rule that a user can break is a bound on a field or a CEL rule on a model, so that the
apiserver refuses a violation at once and names the field.
"""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from seesaw_operator.api.engine import Engine
from seesaw_operator.api.field_types import (
    DEVICE_FORM,
    DURATION_FORM,
    MODEL_FORM,
    DeviceResource,
    Duration,
    ModelUri,
    ObjectName,
    Product,
    Quantity,
    Seconds,
    ServedName,
    capitalized,
    cel_is_quantity,
    cel_quantity,
)
from seesaw_operator.api.model import ApiModel
from seesaw_operator.api.parallelism import Degree, Parallelism, Planning
from seesaw_operator.api.router import Router
from seesaw_operator.api.rules import Reason, Rule, rules

_Reshard = Literal["Auto", "Always", "Never"]
# Lower case was the first spelling, and is still accepted.
Reshard = Annotated[_Reshard, BeforeValidator(capitalized)]


@rules(
    Rule(
        cel=f"!{MODEL_FORM.cel('self.uri')} || "
        "!self.uri.split('/').exists(part, part == '.' || part == '..')",
        message="model.uri must name its folder without '.' and '..'",
        path=".uri",
    ),
    Rule(
        cel=f"!{MODEL_FORM.cel('self.uri')} || "
        "!self.uri.startsWith('pvc://') || size(self.uri.split('/')[2]) <= 253",
        message="model.uri: the name of a claim has at most 253 characters",
        path=".uri",
    ),
)
class Model(ApiModel):
    """The model to serve."""

    uri: ModelUri = Field(
        description="Where the model is: a Hugging Face repository such as "
        "'meta-llama/Llama-3.1-70B-Instruct' (with or without 'hf://'), an absolute path "
        "of a folder inside the image, or 'pvc://CLAIM/PATH' for a folder on a "
        "PersistentVolumeClaim of this namespace."
    )
    name: ServedName | None = Field(
        default=None,
        description="The name by which requests select the model. Default: the resource's own "
        "name.",
    )
    max_model_len: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None,
        description="The maximum of prompt and answer tokens together. Default: the context length "
        "of the model.",
    )


@rules(
    Rule(
        cel="!has(self.resourceName) || self.resourceName == 'cpu' || "
        f"!{DEVICE_FORM.cel('self.resourceName')} || "
        "!(self.resourceName.contains('kubernetes.io/') || "
        "self.resourceName.startsWith('requests.') || size(self.resourceName.split('/')[0]) > 244)",
        message="accelerator.resourceName must be 'cpu' or what a device plugin offers, such as "
        "nvidia.com/gpu",
        path=".resourceName",
    )
)
class Accelerator(ApiModel):
    """The devices of one replica."""

    resource_name: DeviceResource = Field(
        default="nvidia.com/gpu",
        description="The extended resource that the pods request. 'cpu' runs on processor cores, "
        "one per rank, which is slow and meant for trials.",
    )
    count: Degree = Field(default=1, description="Number of devices of one replica.")
    product: Product | None = Field(
        default=None,
        description="The product name of the devices, such as 'L4' or 'NVIDIA-L4', for the "
        "planner. Default: the name that the first GPU reports.",
    )


@rules(
    Rule(
        cel=f"!({cel_is_quantity('self.size')}) || "
        f"({cel_quantity('self.size')}.compareTo(quantity('1Mi')) >= 0 "
        f"&& {cel_quantity('self.size')}.compareTo(quantity('1Ei')) <= 0)",
        message="kvBuffer.size must be at least 1Mi and at most 1Ei",
        path=".size",
    )
)
class KVBuffer(ApiModel):
    """Memory in each pod that holds the KV of prompts between prefill and decode. Elastic instances
    have none."""

    size: Quantity = Field(
        default="4Gi",
        description="Size per replica, such as '64Gi'. A larger buffer needs fewer transitions. "
        "It is reserved at the start and counts towards the pod's memory. Of no effect in mode "
        "Elastic.",
    )


@rules(
    Rule(
        cel=f"!has(self.maxWait) || !{DURATION_FORM.cel('self.maxWait')} || "
        "(duration(self.maxWait) > duration('0s') && "
        "duration(self.maxWait) <= duration('24h'))",
        message="waves.maxWait must be above 0 and at most 24h",
        path=".maxWait",
    )
)
class Waves(ApiModel):
    """How prompts gather into prefill waves, which elastic instances do not have."""

    max_wait: Duration = Field(
        default="10s",
        description="The longest time that a prompt waits for a prefill wave once the buffer has "
        "room, and that running requests stand still for a wave. Such as '500ms', '10s' or "
        "'1m30s'. Of no effect in mode Elastic.",
    )


class Timing(ApiModel):
    """Timeouts of this resource, where the operator's own do not suit."""

    drain_seconds: Seconds | None = Field(
        default=None,
        description="How long a terminating pod may take to finish its running requests. The pod's "
        "grace period follows from it. Default: the operator's, which is 600 unless configured.",
    )
    start_seconds: Seconds | None = Field(
        default=None,
        description="How long a worker may take until its server answers. Downloading and "
        "loading the model are not included. Default: the operator's, which is 600 unless "
        "configured.",
    )
    progress_seconds: Seconds | None = Field(
        default=None,
        description="How long a rollout may make no progress before the resource is Stalled. "
        "Default: the operator's, which is 1800 unless configured.",
    )


# Elastic workers have no KV buffer, so nothing that is said of it applies.
_IS_ELASTIC = "(has(self.parallelism) && has(self.parallelism.elastic))"


@rules(
    Rule(
        cel="!has(self.parallelism) || !has(self.parallelism.decode) || "
        "self.parallelism.decode.tensor * "
        "self.parallelism.decode.pipeline * self.parallelism.decode.data == "
        "self.accelerator.count",
        message="parallelism must use all devices: tensor x pipeline x data must equal "
        "accelerator.count",
        path=".parallelism",
    ),
    Rule(
        cel=f"!{_IS_ELASTIC} || self.parallelism.elastic.instances * "
        "self.parallelism.elastic.tensor == self.accelerator.count",
        message="elastic instances must use all devices: parallelism.elastic.instances x tensor "
        "must equal accelerator.count, which is 1 unless given; change either",
        path=".parallelism",
    ),
    Rule(
        cel=f"!{_IS_ELASTIC} || !(self.reshard in ['Always', 'always'])",
        message="reshard Always does not go with parallelism.mode Elastic, which does not "
        "re-shard: drop reshard, or set the mode to Manual and give two layouts",
        path=".reshard",
        reason=Reason.FORBIDDEN,
    ),
    Rule(
        cel=f"{_IS_ELASTIC} || !({cel_is_quantity('self.engine.resources.memory')}) || "
        f"{cel_quantity('self.engine.resources.memory')}"
        f".isGreaterThan({cel_quantity('self.kvBuffer.size')})",
        message="engine.resources.memory must be larger than kvBuffer.size, which is part of it",
        path=".engine.resources.memory",
    ),
)
class Spec(ApiModel):
    """The desired state."""

    model: Model = Field(description="The model to serve.")
    accelerator: Accelerator = Field(
        default=Accelerator(), description="The devices of one replica."
    )
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1,
        description="Number of worker pods, each of which serves a whole copy of the model.",
    )
    parallelism: Parallelism | None = Field(
        default=None,
        description="The layouts, or elastic instances. Default: the planner chooses the layouts.",
    )
    planning: Planning = Field(
        default=Planning(), description="Inputs of the planner, where it chooses the layouts."
    )
    reshard: Reshard = Field(
        default="Auto",
        description="When to prefill under the prefill layout. 'Auto': where measurements show "
        "that two transitions pay. 'Always': whenever the KV buffer can carry a prompt. 'Never': "
        "not at all, which is plain vLLM in the decode layout. Lower case is accepted, too.",
        json_schema_extra={"enum": [*get_args(_Reshard), *map(str.lower, get_args(_Reshard))]},
    )
    kv_buffer: KVBuffer = Field(
        default=KVBuffer(), description="Memory that holds KV between prefill and decode."
    )
    waves: Waves = Field(default=Waves(), description="How prompts gather into prefill waves.")
    engine: Engine = Field(default=Engine(), description="The workers' pods.")
    router: Router = Field(default=Router(), description="The endpoint in front of the workers.")
    timing: Timing = Field(default=Timing(), description="Timeouts of this resource.")
    profile: ObjectName | None = Field(
        default=None,
        description="The name of one of the operator's profiles: pod templates that several "
        "resources share. Those of the resource itself are merged over them. Default: none.",
    )
    paused: bool = Field(
        default=False,
        description="Do not replace pods, whatever changes in the spec; their number may still "
        "change. Use it to collect several changes in one rollout, or to choose when a rollout "
        "starts.",
    )
