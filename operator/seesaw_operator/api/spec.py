"""``SeesawDeployment.spec`` as users write it. The CRD's schema is generated from these models.

Every rule that a user can break is a bound on a field or a CEL rule on a model, so that the
apiserver refuses it at once, naming the field.
"""

from typing import Annotated, Literal

from pydantic import Field

from seesaw_operator.api.model import ApiModel
from seesaw_operator.api.parallelism import Degree, Parallelism, Planning
from seesaw_operator.api.rules import Rule, rules

QUANTITY = r"^[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?$"

MODEL_URI = (
    r"^(pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(/[^ ]*)?|/[^ ]+|[A-Za-z0-9][^ :/]*(/[^ :/]+)?)$"
)

Quantity = Annotated[str, Field(pattern=QUANTITY, max_length=24)]


class Model(ApiModel):
    """What to serve."""

    uri: Annotated[str, Field(max_length=2048, pattern=MODEL_URI)] = Field(
        description="Where the model is: a Hugging Face repository such as "
        "'meta-llama/Llama-3.1-70B-Instruct', an absolute path of a folder inside the image, or "
        "'pvc://CLAIM/PATH' for a folder on a PersistentVolumeClaim of this namespace."
    )
    name: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        default=None,
        description="The name that requests put into their 'model' field. Default: the "
        "resource's own name.",
    )
    max_model_len: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="The longest prompt and answer together, in tokens. Default: what the model "
        "was made for.",
    )


class Accelerator(ApiModel):
    """What one replica runs on."""

    resource_name: Annotated[
        str, Field(min_length=1, max_length=253, pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9._-]+$")
    ] = Field(
        default="nvidia.com/gpu",
        description="The extended resource to ask the node for. 'cpu' runs on processor cores, "
        "one for each rank: slow, for trying things out.",
    )
    count: Degree = Field(default=1, description="How many devices one replica has.")
    product: (
        Annotated[
            str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._-]*)$")
        ]
        | None
    ) = Field(
        default=None,
        description="What the devices are, such as 'L4' or 'NVIDIA-L4', for the planner. Default: "
        "what the first GPU calls itself.",
    )


class KVBuffer(ApiModel):
    """Memory in each pod for the KV of prompts on their way from prefill to decode."""

    size: Quantity = Field(
        default="4Gi",
        description="Per replica, such as '64Gi'. The larger, the fewer transitions. It is "
        "reserved at the start and counted in the pod's memory.",
    )


class Waves(ApiModel):
    """How prompts gather."""

    max_wait: Annotated[str, Field(pattern=r"^[1-9][0-9]*(ms|s|m)$", max_length=12)] = Field(
        default="10s",
        description="The longest that a prompt waits for a prefill wave once the buffer has "
        "room, and that running requests stand still for one.",
    )


class KeyRef(ApiModel):
    """A key of a Secret or ConfigMap of this namespace."""

    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="The object.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="The key in it.")
    optional: bool = Field(default=False, description="Whether it may be missing.")


@rules(
    Rule(
        cel="has(self.secretKeyRef) != has(self.configMapKeyRef)",
        message="give exactly one of secretKeyRef and configMapKeyRef",
    )
)
class EnvSource(ApiModel):
    """Where a variable's value comes from."""

    secret_key_ref: KeyRef | None = Field(default=None, description="A Secret's key.")
    config_map_key_ref: KeyRef | None = Field(default=None, description="A ConfigMap's key.")


@rules(
    Rule(
        cel="!(has(self.value) && has(self.valueFrom))",
        message="give value or valueFrom, not both",
    )
)
class EnvVar(ApiModel):
    """One environment variable of the engine."""

    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Its name.")
    value: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="Its value."
    )
    value_from: EnvSource | None = Field(
        default=None, description="Where its value comes from, instead of 'value'."
    )


class Resources(ApiModel):
    """What a pod asks for beside its devices, over all its engines."""

    cpu: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?m?$", max_length=24)] | None = Field(
        default=None, description="Processor cores, such as '8' or '500m'."
    )
    memory: Quantity | None = Field(
        default=None,
        description="The pod's whole memory: processes, the KV buffer, and on the CPU the "
        "weights. It must be larger than the KV buffer.",
    )


@rules(
    Rule(
        cel="has(self.key) || self.operator == 'Exists'",
        message="a toleration without key tolerates every taint: its operator must be Exists",
    ),
    Rule(
        cel="!has(self.value) || self.operator == 'Equal'",
        message="operator Exists takes no value",
    ),
    Rule(
        cel="!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        message="tolerationSeconds goes with effect NoExecute only",
    ),
)
class Toleration(ApiModel):
    """A taint of nodes that the workers put up with."""

    key: Annotated[str, Field(min_length=1, max_length=317)] | None = Field(
        default=None, description="The taint's key, such as 'nvidia.com/gpu'. Default: any."
    )
    operator: Literal["Equal", "Exists"] = Field(
        default="Equal", description="'Equal' compares the value, 'Exists' takes any."
    )
    value: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="The taint's value."
    )
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="The taint's effect. Default: any."
    )
    toleration_seconds: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How long a NoExecute taint is put up with. Default: for good."
    )


_OPERATORS = (
    "--host",
    "--port",
    "--shm-dir",
    "--kv-buffer-gib",
    "--reshard",
    "--parallelism",
    "--drain-timeout-s",
    "--tensor-parallel-size",
    "-tp",
    "--pipeline-parallel-size",
    "-pp",
    "--data-parallel-size",
    "-dp",
    "--prefill-tensor-parallel-size",
    "--prefill-pipeline-parallel-size",
    "--decode-tensor-parallel-size",
    "--decode-pipeline-parallel-size",
)


@rules(
    Rule(
        cel="!has(self.extraArgs) || !self.extraArgs.exists(flag, "
        f"flag.split('=')[0] in {list(_OPERATORS)})",
        message="extraArgs must not set what the operator sets from other fields: layouts "
        "(parallelism), --kv-buffer-gib (kvBuffer.size), --reshard (reshard), --host, --port, "
        "--shm-dir and --drain-timeout-s",
    )
)
class Engine(ApiModel):
    """The worker's container."""

    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        default=None, description="Default: the worker image that the operator was installed with."
    )
    extra_args: tuple[Annotated[str, Field(max_length=4096)], ...] = Field(
        default=(),
        max_length=128,
        description="More flags for the worker: those of 'vllm serve' and of 'seesaw worker'.",
    )
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=128,
        description="Environment variables, such as HF_TOKEN.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    resources: Resources = Field(
        default=Resources(), description="Memory and processor cores of a pod."
    )
    node_selector: dict[str, str] | None = Field(
        default=None,
        description="Labels that a worker's node must have, such as 'nvidia.com/gpu.product: "
        "NVIDIA-L4' where a cluster has several kinds of GPU.",
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(),
        max_length=64,
        description="Taints of nodes that the workers put up with, such as those that keep other "
        "pods away from GPUs.",
    )


class Router(ApiModel):
    """The HTTP endpoint in front of the workers."""

    replicas: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="How many routers. Two or more survive the loss of one."
    )
    image: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        default=None, description="Default: the router image that the operator was installed with."
    )


@rules(
    Rule(
        cel="!has(self.parallelism) || !has(self.parallelism.decode) || "
        "self.parallelism.decode.tensor * "
        "self.parallelism.decode.pipeline * self.parallelism.decode.data == "
        "self.accelerator.count",
        message="parallelism must use all devices: tensor x pipeline x data must equal "
        "accelerator.count",
    ),
    Rule(
        cel="!has(self.engine.resources.memory) || quantity(self.engine.resources.memory)"
        ".isGreaterThan(quantity(self.kvBuffer.size))",
        message="engine.resources.memory must be larger than kvBuffer.size, which is part of it",
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
    reshard: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="When to prefill under the prefill layout: 'auto' where measurements say "
        "that two transitions pay, 'always' whenever the KV buffer can carry a prompt, 'never' "
        "not at all, which is plain vLLM in the decode layout.",
    )
    kv_buffer: KVBuffer = Field(
        default=KVBuffer(), description="Memory for KV between prefill and decode."
    )
    waves: Waves = Field(default=Waves(), description="How prompts gather into prefill waves.")
    engine: Engine = Field(default=Engine(), description="The worker's container.")
    router: Router = Field(default=Router(), description="The endpoint in front of the workers.")
