"""``spec.router``: the routers' pods, and the Service before them."""

from typing import Annotated, Literal

from pydantic import Field

from seesaw_operator.api.extra_args import entry_rules, in_order
from seesaw_operator.api.field_types import (
    Annotation,
    Cores,
    Image,
    LabelKey,
    LabelValue,
    Network,
    Quantity,
    Text,
    cel_is_quantity,
    cel_quantity,
)
from seesaw_operator.api.model import ApiModel
from seesaw_operator.api.pod_template import RouterPodTemplate
from seesaw_operator.api.rules import Reason, Rule, rules
from seesaw_operator.api.template_rules import metadata_rules

_OPERATORS = {  # by flag, the field that it is made of, where there is one
    "--service": "",
    "--worker": "",
    "--host": "",
    "--port": "",
    "--max-wait-s": "waves.maxWait",
    "--drain-timeout-s": "timing.drainSeconds",
}
_Flag = Annotated[Text, *entry_rules("router", _OPERATORS)]


@rules(
    Rule(
        cel=f"!({cel_is_quantity('self.memory')}) || "
        f"({cel_quantity('self.memory')}.compareTo(quantity('64Mi')) >= 0 && "
        f"{cel_quantity('self.memory')}.compareTo(quantity('1Ei')) <= 0)",
        message="router.resources.memory must be at least 64Mi and at most 1Ei",
        path=".memory",
    )
)
class RouterResources(ApiModel):
    """What a router asks for."""

    cpu: Cores | None = Field(
        default=None,
        description="Processor cores, such as 2, '0.5' in quotes or 500m. Default: 250m.",
    )
    memory: Quantity | None = Field(
        default=None, description="Its whole memory. Default: it asks for 256Mi and may use 1Gi."
    )


@rules(
    *metadata_rules("router.service"),
    *(
        Rule(
            cel=f"!has(self.{field}) || {unset}self.type == 'LoadBalancer'",
            message=f"router.service.{field} goes with type LoadBalancer only",
            path=f".{field}",
            reason=Reason.FORBIDDEN,
        )
        for field, unset in (
            ("loadBalancerClass", ""),
            ("loadBalancerSourceRanges", "self.loadBalancerSourceRanges.size() == 0 || "),
        )
    ),
    *(
        Rule(
            cel=f"!has(self.{field}) || self.type != 'ClusterIP'",
            message=f"router.service.{field} goes with type NodePort or LoadBalancer only",
            path=f".{field}",
            reason=Reason.FORBIDDEN,
        )
        for field in ("externalTrafficPolicy", "nodePort")
    ),
)
class RouterService(ApiModel):
    """The Service that clients call."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP",
        description="Who reaches it: 'ClusterIP' the cluster, 'NodePort' whoever reaches a node, "
        "'LoadBalancer' whoever the cloud's load balancer lets in. It asks for no key.",
    )
    labels: Annotated[dict[str, LabelValue], Field(max_length=64)] | None = Field(
        default=None, description="Labels beside those of the operator."
    )
    annotations: Annotated[dict[str, Annotation], Field(max_length=64)] | None = Field(
        default=None, description="Annotations, such as those that load balancers read."
    )
    load_balancer_class: LabelKey | None = Field(
        default=None, description="Who makes the load balancer. It cannot be changed later."
    )
    load_balancer_source_ranges: Annotated[tuple[Network, ...], Field(max_length=64)] | None = (
        Field(
            default=None,
            description="Networks that the load balancer lets in, such as 10.0.0.0/8.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        )
    )
    external_traffic_policy: Literal["Cluster", "Local"] | None = Field(
        default=None,
        description="'Local' keeps clients' addresses, and reaches only routers of the node.",
    )
    node_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="The port of the nodes, of those that the cluster has for it: 30000 to "
        "32767 where it was not set up otherwise. Default: one that is free.",
    )


@rules(
    in_order("router"),
)
class Router(ApiModel):
    """The HTTP endpoint in front of the workers."""

    replicas: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="How many routers. Two or more survive the loss of one."
    )
    image: Image | None = Field(
        default=None, description="Default: the router image that the operator was installed with."
    )
    extra_args: tuple[_Flag, ...] = Field(
        default=(),
        max_length=128,
        description="More flags of 'seesaw router', taken as they are: $(NAME) is refused.",
    )
    resources: RouterResources = Field(
        default=RouterResources(), description="Memory and processor cores of a router."
    )
    service: RouterService = Field(
        default=RouterService(), description="The Service that clients call."
    )
    pod_template: RouterPodTemplate | None = Field(
        default=None,
        description="What else the pods are to have, in the shape of a core/v1 PodTemplateSpec. "
        "Merged as kubectl patch would.",
    )
