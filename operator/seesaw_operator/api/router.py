"""``spec.router``: the pods of the routers, and the Service in front of them."""

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

_OPERATORS = {  # by flag, the field that sets it, if there is one
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
    """Memory and processor cores of a router."""

    cpu: Cores | None = Field(
        default=None,
        description="Processor cores, such as 2, '0.5' in quotes or 500m. Default: 250m.",
    )
    memory: Quantity | None = Field(
        default=None,
        description="Memory, as request and limit. Default: a request of 256Mi and a limit of 1Gi.",
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
        description="Who can connect. 'ClusterIP': the cluster. 'NodePort': everybody who "
        "reaches a node. 'LoadBalancer': everybody whom the cloud's load balancer admits. There "
        "is no authentication.",
    )
    labels: Annotated[dict[str, LabelValue], Field(max_length=64)] | None = Field(
        default=None, description="Labels in addition to those of the operator."
    )
    annotations: Annotated[dict[str, Annotation], Field(max_length=64)] | None = Field(
        default=None, description="Annotations, such as those that configure load balancers."
    )
    load_balancer_class: LabelKey | None = Field(
        default=None,
        description="The implementation of the load balancer. It cannot be changed later.",
    )
    load_balancer_source_ranges: Annotated[tuple[Network, ...], Field(max_length=64)] | None = (
        Field(
            default=None,
            description="Networks that the load balancer admits, such as 10.0.0.0/8.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        )
    )
    external_traffic_policy: Literal["Cluster", "Local"] | None = Field(
        default=None,
        description="'Local' preserves client addresses, and routes only to routers on the same "
        "node.",
    )
    node_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="The port on the nodes, from the cluster's range for node ports: 30000 to "
        "32767 unless configured otherwise. Default: a free one.",
    )


@rules(
    in_order("router"),
)
class Router(ApiModel):
    """The HTTP endpoint in front of the workers."""

    replicas: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="Number of routers. Two or more survive the loss of one."
    )
    image: Image | None = Field(
        default=None,
        description="The router image. Default: the one that the operator was installed with.",
    )
    extra_args: tuple[_Flag, ...] = Field(
        default=(),
        max_length=128,
        description="Further flags of 'seesaw router'. They are passed on unchanged; $(NAME) is "
        "refused.",
    )
    resources: RouterResources = Field(
        default=RouterResources(), description="Memory and processor cores of a router."
    )
    service: RouterService = Field(
        default=RouterService(), description="The Service that clients call."
    )
    pod_template: RouterPodTemplate | None = Field(
        default=None,
        description="Additions to the pods, in the shape of a core/v1 PodTemplateSpec. It is "
        "merged as kubectl patch would.",
    )
