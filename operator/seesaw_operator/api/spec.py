"""``SeesawDeployment.spec`` as users write it. The CRD's schema is generated from these models.

Every rule that a user can break is a bound on a field or a CEL rule on a model, so that the
apiserver refuses it at once, naming the field.
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
from seesaw_operator.api.rules import Rule, rules

_Reshard = Literal["Auto", "Always", "Never"]
# Or in lower case, as it was spelled at first.
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
    """What to serve."""

    uri: ModelUri = Field(
        description="Where the model is: a Hugging Face repository such as "
        "'meta-llama/Llama-3.1-70B-Instruct' (with or without 'hf://'), an absolute path "
        "of a folder inside the image, or 'pvc://CLAIM/PATH' for a folder on a "
        "PersistentVolumeClaim of this namespace."
    )
    name: ServedName | None = Field(
        default=None,
        description="The name that requests put into their 'model' field. Default: the "
        "resource's own name.",
    )
    max_model_len: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None,
        description="The longest prompt and answer together, in tokens. Default: what the model "
        "was made for.",
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
    """What one replica runs on."""

    resource_name: DeviceResource = Field(
        default="nvidia.com/gpu",
        description="The extended resource to ask the node for. 'cpu' runs on processor cores, "
        "one for each rank: slow, for trying things out.",
    )
    count: Degree = Field(default=1, description="How many devices one replica has.")
    product: Product | None = Field(
        default=None,
        description="What the devices are, such as 'L4' or 'NVIDIA-L4', for the planner. Default: "
        "what the first GPU calls itself.",
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
    """Memory in each pod for the KV of prompts on their way from prefill to decode."""

    size: Quantity = Field(
        default="4Gi",
        description="Per replica, such as '64Gi'. The larger, the fewer transitions. It is "
        "reserved at the start and counted in the pod's memory.",
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
    """How prompts gather."""

    max_wait: Duration = Field(
        default="10s",
        description="Such as '500ms', '10s' or '1m30s': the longest that a prompt waits for a "
        "prefill wave once the buffer has room, and that running requests stand still for one.",
    )


class Timing(ApiModel):
    """How patient the pods of this resource are, where the operator's own timing does not suit."""

    drain_seconds: Seconds | None = Field(
        default=None,
        description="How long a pod that is to go may finish what it has begun. Its grace period "
        "follows from it. Default: the operator's, 600 unless it was installed otherwise.",
    )
    start_seconds: Seconds | None = Field(
        default=None,
        description="How long a worker may take until it answers at all; loading and downloading "
        "come after that. Default: the operator's, likewise 600.",
    )
    progress_seconds: Seconds | None = Field(
        default=None,
        description="How long nothing may move while something is to be done, before the resource "
        "is Stalled. Default: the operator's, likewise 1800.",
    )


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
        cel=f"!({cel_is_quantity('self.engine.resources.memory')}) || "
        f"{cel_quantity('self.engine.resources.memory')}"
        f".isGreaterThan({cel_quantity('self.kvBuffer.size')})",
        message="engine.resources.memory must be larger than kvBuffer.size, which is part of it",
        path=".engine.resources.memory",
    ),
)
class Spec(ApiModel):
    """What is wanted."""

    model: Model = Field(description="What to serve.")
    accelerator: Accelerator = Field(default=Accelerator(), description="What one replica runs on.")
    replicas: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=1, description="How many worker pods, each a whole copy of the model."
    )
    parallelism: Parallelism | None = Field(
        default=None,
        description="The layouts. Default: the planner chooses them.",
    )
    planning: Planning = Field(
        default=Planning(), description="For the planner, where it chooses the layouts."
    )
    reshard: Reshard = Field(
        default="Auto",
        description="When to prefill under the prefill layout: 'Auto' where measurements say "
        "that two transitions pay, 'Always' whenever the KV buffer can carry a prompt, 'Never' "
        "not at all, which is plain vLLM in the decode layout. Lower case is read, too.",
        json_schema_extra={"enum": [*get_args(_Reshard), *map(str.lower, get_args(_Reshard))]},
    )
    kv_buffer: KVBuffer = Field(
        default=KVBuffer(), description="Memory for KV between prefill and decode."
    )
    waves: Waves = Field(default=Waves(), description="How prompts gather into prefill waves.")
    engine: Engine = Field(default=Engine(), description="The workers' pods.")
    router: Router = Field(default=Router(), description="The endpoint in front of the workers.")
    timing: Timing = Field(default=Timing(), description="How patient the pods are.")
    profile: ObjectName | None = Field(
        default=None,
        description="One of the operator's profiles, by name: pod templates that many resources "
        "share, under those of this one. Default: none.",
    )
    paused: bool = Field(
        default=False,
        description="Keep all pods as they are, whatever changes; their number may still change. "
        "For several changes in one rollout, or for one at a time of your choosing.",
    )
