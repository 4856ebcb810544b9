"""``spec.engine``: the workers' pods."""

from typing import Annotated, Literal

from pydantic import Field

from seesaw_operator.api.extra_args import entry_rules, in_order
from seesaw_operator.api.field_types import (
    ContainerResource,
    Cores,
    DataKey,
    Divisor,
    EnvName,
    EnvValue,
    FieldPath,
    Image,
    LabelValue,
    ObjectName,
    Quantity,
    Text,
    cel_is_key,
    cel_is_quantity,
    cel_quantity,
    cel_wrong_key,
)
from seesaw_operator.api.model import ApiModel
from seesaw_operator.api.pod_template import EnginePodTemplate
from seesaw_operator.api.rules import Reason, Rule, rules
from seesaw_operator.api.toleration import Toleration


class KeyRef(ApiModel):
    """A key of a Secret or ConfigMap of this namespace."""

    name: ObjectName = Field(description="The object.")
    key: DataKey = Field(description="The key in it.")
    optional: bool | None = Field(default=None, description="Whether it may be missing.")


class FieldRef(ApiModel):
    """A field of the pod."""

    api_version: Literal["v1"] | None = Field(
        default=None, description="As core/v1 has it. Default: v1."
    )
    field_path: FieldPath = Field(
        description="Such as 'status.hostIP' or \"metadata.labels['team']\"."
    )


@rules(
    Rule(
        cel="!has(self.divisor) || !self.resource.endsWith('.cpu') || "
        "string(self.divisor) in ['0', '1', '1m']",
        message="the divisor of cpu is 1, or 1m for thousandths of a core",
        path=".divisor",
    )
)
class ResourceFieldRef(ApiModel):
    """What the container itself asks for, or may use at most."""

    resource: ContainerResource = Field(description="Such as limits.memory or requests.cpu.")
    divisor: Divisor | None = Field(
        default=None, description="The unit to count in, such as 1Mi. Default: 1."
    )


@rules(
    Rule(
        cel="(has(self.secretKeyRef) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0) + "
        "(has(self.fieldRef) ? 1 : 0) + (has(self.resourceFieldRef) ? 1 : 0) == 1",
        message="give exactly one of secretKeyRef, configMapKeyRef, fieldRef and resourceFieldRef",
    )
)
class EnvSource(ApiModel):
    """Where a variable's value comes from."""

    secret_key_ref: KeyRef | None = Field(default=None, description="A Secret's key.")
    config_map_key_ref: KeyRef | None = Field(default=None, description="A ConfigMap's key.")
    field_ref: FieldRef | None = Field(default=None, description="A field of the pod.")
    resource_field_ref: ResourceFieldRef | None = Field(
        default=None, description="What the container asks for."
    )


@rules(
    Rule(
        cel="!(has(self.value) && has(self.valueFrom))",
        message="give value or valueFrom, not both",
        path=".valueFrom",
        reason=Reason.FORBIDDEN,
    )
)
class EnvVar(ApiModel):
    """One environment variable of the engine."""

    name: EnvName = Field(description="Its name.")
    value: EnvValue | None = Field(default=None, description="Its value.")
    value_from: EnvSource | None = Field(
        default=None, description="Where its value comes from, instead of 'value'."
    )


@rules(
    Rule(
        cel=f"!({cel_is_quantity('self.memory')}) || "
        f"{cel_quantity('self.memory')}.compareTo(quantity('1Ei')) <= 0",
        message="engine.resources.memory must be at most 1Ei",
        path=".memory",
    )
)
class Resources(ApiModel):
    """What a pod asks for beside its devices, over all its engines."""

    cpu: Cores | None = Field(
        default=None, description="Processor cores, such as 8, '0.5' in quotes or 500m."
    )
    memory: Quantity | None = Field(
        default=None,
        description="The pod's whole memory: processes, the KV buffer, and on the CPU the "
        "weights. It must be larger than the KV buffer.",
    )


# By flag, the field that sets it.
_OPERATORS = {
    "--host": "",
    "--port": "",
    "--shm-dir": "",
    "--uds": "",
    "--ssl-keyfile": "",
    "--ssl-certfile": "",
    "--headless": "",
    "--nnodes": "",
    "-n": "",
    "--node-rank": "",
    "-r": "",
    "--drain-timeout-s": "timing.drainSeconds",
    "--kv-buffer-gib": "kvBuffer.size",
    "--reshard": "reshard",
    "--flush-timeout-s": "waves.maxWait",
    "--served-model-name": "model.name",
    "--max-model-len": "model.maxModelLen",
    "--model": "model.uri",
    "--config": "each flag in extraArgs",
    "--parallelism": "parallelism.mode",
    "--devices": "accelerator.count",
    "--accelerator": "accelerator.product",
    "--plan-prompt-tokens": "planning.promptTokens",
    "--plan-output-tokens": "planning.outputTokens",
    "--plan-concurrency": "planning.concurrency",
    **dict.fromkeys(
        (
            "--data-parallel-address",
            "--data-parallel-external-lb",
            "--data-parallel-hybrid-lb",
            "--data-parallel-multi-port-external-lb",
            "--data-parallel-rank",
            "--data-parallel-size-local",
            "--data-parallel-start-rank",
            "--data-parallel-supervisor-port",
            "--tensor-parallel-size",
            "--pipeline-parallel-size",
            "--data-parallel-size",
            "--prefill-tensor-parallel-size",
            "--prefill-pipeline-parallel-size",
            "--decode-tensor-parallel-size",
            "--decode-pipeline-parallel-size",
            "-tp",
            "-pp",
            "-dp",
        ),
        "parallelism",
    ),
}
_Flag = Annotated[Text, *entry_rules("engine", _OPERATORS)]


@rules(
    in_order("engine"),
    Rule(
        cel=f"!has(self.nodeSelector) || self.nodeSelector.all(key, {cel_is_key('key')})",
        message="engine.nodeSelector takes labels, such as nvidia.com/gpu.product: NVIDIA-L4",
        told=cel_wrong_key(
            "self.nodeSelector",
            "engine.nodeSelector takes labels, such as nvidia.com/gpu.product: NVIDIA-L4, and none "
            "with the key",
        ),
        path=".nodeSelector",
    ),
    Rule(
        cel="!has(self.tolerations) || self.tolerations.size() == 0 || !has(self.podTemplate) || "
        "!has(self.podTemplate.spec) || !has(self.podTemplate.spec.tolerations)",
        message="give tolerations in engine.tolerations or in engine.podTemplate.spec, not in both",
        path=".tolerations",
        reason=Reason.FORBIDDEN,
    ),
)
class Engine(ApiModel):
    """The workers' pods."""

    image: Image | None = Field(
        default=None, description="Default: the worker image that the operator was installed with."
    )
    extra_args: tuple[_Flag, ...] = Field(
        default=(),
        max_length=128,
        description="More flags for the worker: those of 'vllm serve' and of 'seesaw worker', "
        "taken as they are: $(NAME) is refused.",
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
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=64)] | None = Field(
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
    pod_template: EnginePodTemplate | None = Field(
        default=None,
        description="What else the pods are to have, in the shape of a core/v1 PodTemplateSpec: "
        "labels, volumes, sidecars, affinity and so on. Merged as kubectl patch would.",
    )
