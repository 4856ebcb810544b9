"""``spec.engine``: the pods of the workers."""

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

    name: ObjectName = Field(description="The name of the object.")
    key: DataKey = Field(description="The key in the object.")
    optional: bool | None = Field(
        default=None, description="Whether the object or the key may be missing."
    )


class FieldRef(ApiModel):
    """A field of the pod."""

    api_version: Literal["v1"] | None = Field(
        default=None, description="The API version of the field's schema. Default: v1."
    )
    field_path: FieldPath = Field(
        description="The path of the field, such as 'status.hostIP' or \"metadata.labels['team']\"."
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
    """A resource request or limit of the container itself."""

    resource: ContainerResource = Field(
        description="The request or limit, such as limits.memory or requests.cpu."
    )
    divisor: Divisor | None = Field(
        default=None, description="The unit of the value, such as 1Mi. Default: 1."
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

    secret_key_ref: KeyRef | None = Field(default=None, description="A key of a Secret.")
    config_map_key_ref: KeyRef | None = Field(default=None, description="A key of a ConfigMap.")
    field_ref: FieldRef | None = Field(default=None, description="A field of the pod.")
    resource_field_ref: ResourceFieldRef | None = Field(
        default=None, description="A resource request or limit of the container."
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

    name: EnvName = Field(description="The name of the variable.")
    value: EnvValue | None = Field(default=None, description="The value of the variable.")
    value_from: EnvSource | None = Field(
        default=None, description="The source of the value, in place of 'value'."
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
    """The requests of a pod besides its devices, over all its engines."""

    cpu: Cores | None = Field(
        default=None, description="Processor cores, such as 8, '0.5' in quotes or 500m."
    )
    memory: Quantity | None = Field(
        default=None,
        description="The memory of the whole pod: processes, the KV buffer and, on the CPU, the "
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
            "--elastic-instances",
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
    """The pods of the workers."""

    image: Image | None = Field(
        default=None,
        description="The worker image. Default: the one that the operator was installed with.",
    )
    extra_args: tuple[_Flag, ...] = Field(
        default=(),
        max_length=128,
        description="Further flags for the worker, those of 'vllm serve' and of 'seesaw worker'. "
        "They are passed on unchanged; $(NAME) is refused.",
    )
    env: tuple[EnvVar, ...] = Field(
        default=(),
        max_length=128,
        description="Environment variables of the engine, such as HF_TOKEN.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    resources: Resources = Field(
        default=Resources(),
        description="Memory and processor cores of a pod, over all its engines.",
    )
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=64)] | None = Field(
        default=None,
        description="Labels that a worker's node must have, such as 'nvidia.com/gpu.product: "
        "NVIDIA-L4' where a cluster has several kinds of GPU.",
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(),
        max_length=64,
        description="Tolerations of the workers, such as for taints that keep other pods away from "
        "GPUs.",
    )
    pod_template: EnginePodTemplate | None = Field(
        default=None,
        description="Additions to the pods, in the shape of a core/v1 PodTemplateSpec: labels, "
        "volumes, sidecars, affinity and so on. It is merged as kubectl patch would.",
    )
