"""``podTemplate``: users' additions to the pods that the operator defines.

It has the shape of core/v1's PodTemplateSpec. Fields that the operator's rules need have a type.
The others are passed on, and the apiserver validates them in the StatefulSet or Deployment.
"""

from typing import Annotated, Literal

from pydantic import Field

from seesaw_operator.api import owned
from seesaw_operator.api.container import Container, Free, Named, Open, ShortNamed, keyed
from seesaw_operator.api.field_types import Address, Annotation, LabelKey, LabelValue, ObjectName
from seesaw_operator.api.model import ApiModel
from seesaw_operator.api.rules import Rule, foreign, rules
from seesaw_operator.api.template_rules import metadata_rules, template_rules
from seesaw_operator.api.toleration import Toleration

_NamedItems = Annotated[tuple[Named, ...], Field(max_length=64)]
_ShortNamedItems = Annotated[tuple[ShortNamed, ...], Field(max_length=64)]
_Containers = Annotated[tuple[Container, ...], Field(max_length=16)]


class HostAlias(Open):
    """A line of /etc/hosts."""

    ip: Address = Field(description="The IP address.")


class Gate(Open):
    """A scheduling gate, which keeps a pod from being scheduled."""

    name: LabelKey = Field(description="Its name.")


class Spread(Open):
    """A topology spread constraint."""

    topology_key: LabelKey = Field(description="The node label that defines the topology.")
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="What to do with a pod that would violate the constraint."
    )


@foreign(owned.OF_METADATA)
@rules(*metadata_rules("podTemplate.metadata"))
class PodMetadata(ApiModel):
    """Labels and annotations of pods."""

    labels: Annotated[dict[str, LabelValue], Field(max_length=64)] | None = Field(
        default=None, description="Labels in addition to those of the operator."
    )
    annotations: Annotated[dict[str, Annotation], Field(max_length=64)] | None = Field(
        default=None, description="Annotations."
    )


@foreign(owned.OF_POD)
class PodSpec(ApiModel):
    """The fields of core/v1's PodSpec that users may set."""

    affinity: Free | None = Field(default=None, description="Affinity to nodes and pods.")
    automount_service_account_token: bool | None = Field(
        default=None, description="Whether the service account's token is mounted."
    )
    containers: _Containers | None = Field(
        default=None,
        description="Further containers, and additions to the operator's container, under its "
        "name.",
        json_schema_extra=keyed("name"),
    )
    dns_config: Free | None = Field(default=None, description="DNS parameters.")
    dns_policy: Literal["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"] | None = (
        Field(default=None, description="DNS policy.")
    )
    host_aliases: Annotated[tuple[HostAlias, ...], Field(max_length=64)] | None = Field(
        default=None, description="Lines of /etc/hosts.", json_schema_extra=keyed("ip")
    )
    host_users: bool | None = Field(
        default=None,
        description="False: the pod has a user namespace of its own, apart from the node's.",
    )
    image_pull_secrets: _NamedItems | None = Field(
        default=None,
        description="Pull Secrets in addition to those that the operator was installed with.",
        json_schema_extra=keyed("name"),
    )
    init_containers: _Containers | None = Field(
        default=None,
        description="Init containers; with 'restartPolicy: Always', sidecars that run until the "
        "pod ends.",
        json_schema_extra=keyed("name"),
    )
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=64)] | None = Field(
        default=None, description="Labels that a node must have."
    )
    preemption_policy: Literal["Never", "PreemptLowerPriority"] | None = Field(
        default=None, description="Whether pods of lower priority are preempted."
    )
    priority_class_name: ObjectName | None = Field(
        default=None, description="The priority class of the pods."
    )
    readiness_gates: Annotated[tuple[Free, ...], Field(max_length=16)] | None = Field(
        default=None, description="Further conditions that must hold before a pod counts as ready."
    )
    resource_claims: _ShortNamedItems | None = Field(
        default=None,
        description="Devices by dynamic resource allocation, to which 'resources.claims' refer.",
        json_schema_extra=keyed("name"),
    )
    runtime_class_name: ObjectName | None = Field(
        default=None, description="The runtime class of the pods."
    )
    scheduler_name: ObjectName | None = Field(
        default=None, description="The scheduler of the pods."
    )
    scheduling_gates: Annotated[tuple[Gate, ...], Field(max_length=16)] | None = Field(
        default=None,
        description="Gates that must be removed before the pods are scheduled.",
        json_schema_extra=keyed("name"),
    )
    security_context: Free | None = Field(
        default=None, description="Users and groups, merged over those of the operator."
    )
    service_account_name: ObjectName | None = Field(
        default=None, description="The service account, in place of the operator's own."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] | None = Field(
        default=None, description="Tolerations of the pods."
    )
    topology_spread_constraints: Annotated[tuple[Spread, ...], Field(max_length=16)] | None = Field(
        default=None,
        description="Topology spread constraints.",
        json_schema_extra=keyed("topologyKey", "whenUnsatisfiable"),
    )
    volumes: _ShortNamedItems | None = Field(
        default=None, description="Further volumes.", json_schema_extra=keyed("name")
    )


@rules(*template_rules(owned.ENGINE))
class EnginePodSpec(PodSpec):
    """The PodSpec of workers. ``engine`` stands for each of our containers."""


@rules(
    Rule(
        cel="!has(self.automountServiceAccountToken) || self.automountServiceAccountToken",
        message="podTemplate.spec.automountServiceAccountToken must not be false: a router needs "
        "its token to find the workers",
        path=".automountServiceAccountToken",
    ),
    *template_rules(owned.ROUTER),
)
class RouterPodSpec(PodSpec):
    """The PodSpec of routers. Our container is named ``router``."""


class EnginePodTemplate(ApiModel):
    """Additions to the pods of workers."""

    metadata: PodMetadata | None = Field(default=None, description="Labels and annotations.")
    spec: EnginePodSpec | None = Field(
        default=None,
        description="Fields of core/v1's PodSpec. 'engine' is the name of the operator's "
        "container, or stands for all of them.",
    )


class RouterPodTemplate(ApiModel):
    """Additions to the pods of routers."""

    metadata: PodMetadata | None = Field(default=None, description="Labels and annotations.")
    spec: RouterPodSpec | None = Field(
        default=None,
        description="Fields of core/v1's PodSpec. 'router' is the name of the operator's "
        "container.",
    )
