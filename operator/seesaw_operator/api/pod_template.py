"""``podTemplate``: what users add to the pods that the operator makes.

It has the shape of core/v1's PodTemplateSpec. What the operator's rules are about has a type; the
rest is taken as it is, and the apiserver checks it in the pods' StatefulSet or Deployment.
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

    ip: Address = Field(description="The address.")


class Gate(Open):
    """What keeps a pod from being scheduled."""

    name: LabelKey = Field(description="Its name.")


class Spread(Open):
    """How evenly the pods are spread."""

    topology_key: LabelKey = Field(description="The label by which nodes are told apart.")
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        description="What becomes of a pod that would make it uneven."
    )


@foreign(owned.OF_METADATA)
@rules(*metadata_rules("podTemplate.metadata"))
class PodMetadata(ApiModel):
    """Labels and annotations of pods."""

    labels: Annotated[dict[str, LabelValue], Field(max_length=64)] | None = Field(
        default=None, description="Labels beside those of the operator."
    )
    annotations: Annotated[dict[str, Annotation], Field(max_length=64)] | None = Field(
        default=None, description="Annotations."
    )


@foreign(owned.OF_POD)
class PodSpec(ApiModel):
    """The fields of core/v1's PodSpec that users may set."""

    affinity: Free | None = Field(default=None, description="Which nodes, and near which pods.")
    automount_service_account_token: bool | None = Field(
        default=None, description="Whether the containers get the service account's token."
    )
    containers: _Containers | None = Field(
        default=None,
        description="More containers; and what is added to our own, under its name.",
        json_schema_extra=keyed("name"),
    )
    dns_config: Free | None = Field(default=None, description="How names are resolved.")
    dns_policy: Literal["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"] | None = (
        Field(default=None, description="Where names are resolved.")
    )
    host_aliases: Annotated[tuple[HostAlias, ...], Field(max_length=64)] | None = Field(
        default=None, description="Lines of /etc/hosts.", json_schema_extra=keyed("ip")
    )
    host_users: bool | None = Field(
        default=None, description="False: the pod has users of its own, apart from the node's."
    )
    image_pull_secrets: _NamedItems | None = Field(
        default=None,
        description="Secrets for images, beside those that the operator was installed with.",
        json_schema_extra=keyed("name"),
    )
    init_containers: _Containers | None = Field(
        default=None,
        description="Containers that run first; with 'restartPolicy: Always', until the pod ends.",
        json_schema_extra=keyed("name"),
    )
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=64)] | None = Field(
        default=None, description="Labels that a node must have."
    )
    preemption_policy: Literal["Never", "PreemptLowerPriority"] | None = Field(
        default=None, description="Whether pods of lower priority make room."
    )
    priority_class_name: ObjectName | None = Field(
        default=None, description="How important the pods are."
    )
    readiness_gates: Annotated[tuple[Free, ...], Field(max_length=16)] | None = Field(
        default=None, description="What others say before a pod counts as ready."
    )
    resource_claims: _ShortNamedItems | None = Field(
        default=None,
        description="Devices by dynamic resource allocation, which 'resources.claims' name.",
        json_schema_extra=keyed("name"),
    )
    runtime_class_name: ObjectName | None = Field(
        default=None, description="What runs the containers."
    )
    scheduler_name: ObjectName | None = Field(default=None, description="Who chooses nodes.")
    scheduling_gates: Annotated[tuple[Gate, ...], Field(max_length=16)] | None = Field(
        default=None,
        description="What others take away before a node is chosen.",
        json_schema_extra=keyed("name"),
    )
    security_context: Free | None = Field(
        default=None, description="Users and groups, beside and before those of the operator."
    )
    service_account_name: ObjectName | None = Field(
        default=None, description="The service account, instead of one of the operator's making."
    )
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=64)] | None = Field(
        default=None, description="Taints of nodes that the pods put up with."
    )
    topology_spread_constraints: Annotated[tuple[Spread, ...], Field(max_length=16)] | None = Field(
        default=None,
        description="How evenly the pods are spread.",
        json_schema_extra=keyed("topologyKey", "whenUnsatisfiable"),
    )
    volumes: _ShortNamedItems | None = Field(
        default=None, description="More volumes.", json_schema_extra=keyed("name")
    )


@rules(*template_rules(owned.ENGINE))
class EnginePodSpec(PodSpec):
    """Of workers. Our containers are meant by the name ``engine``."""


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
    """Of routers. Our container is named ``router``."""


class EnginePodTemplate(ApiModel):
    """What is added to the workers' pods."""

    metadata: PodMetadata | None = Field(default=None, description="Labels and annotations.")
    spec: EnginePodSpec | None = Field(
        default=None,
        description="Fields of core/v1's PodSpec; 'engine' is the name of our container, or of "
        "all of them.",
    )


class RouterPodTemplate(ApiModel):
    """What is added to the routers' pods."""

    metadata: PodMetadata | None = Field(default=None, description="Labels and annotations.")
    spec: RouterPodSpec | None = Field(
        default=None,
        description="Fields of core/v1's PodSpec; 'router' is the name of our container.",
    )
