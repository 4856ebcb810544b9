"""Values about who may talk to whom."""

from pydantic import Field

from seesaw_generate.chart.kinds import Cidr, Namespace, Port
from seesaw_generate.chart.part import Part
from seesaw_generate.chart.pod import Peer


class KubeApi(Part):
    """Where the apiserver is, as pods see it."""

    cidrs: list[Cidr] = Field(
        default=[], description="Its addresses, such as 10.0.0.1/32; empty for any."
    )
    ports: list[Port] = Field(
        default=[443, 6443], description="Its ports, before and after the Service's translation."
    )


class NetworkPolicy(Part):
    """NetworkPolicies, where the cluster's network enforces them."""

    enabled: bool = Field(default=False, description="Make them.")
    api_server: KubeApi = Field(default=KubeApi(), description="The operator may reach it.")
    monitoring: list[Peer] = Field(
        default=[],
        description="Peers that may read metrics, as in a NetworkPolicy's from; empty for nobody.",
    )
    namespaces: list[Namespace] = Field(
        default=[],
        description="Namespaces whose routers and workers get policies, too. Default: "
        "watchNamespaces.",
    )
    clients: list[Peer] = Field(
        default=[], description="Peers that may reach routers there; empty for everybody."
    )
