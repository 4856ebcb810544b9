"""Names, labels and ports of the objects that belong to one SeesawDeployment."""

from dataclasses import dataclass
from typing import Any

from seesaw_operator.api.crd import GROUP, KIND, VERSION

MANAGER = "seesaw-operator"
DEPLOYMENT_LABEL = f"{GROUP}/deployment"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"

WORKER = "worker"
ROUTER = "router"

WORKER_PORT = 8000
ROUTER_PORT = 8000
SERVICE_PORT = 80

Manifest = dict[str, Any]


def workload_name(resource: str, component: str) -> str:
    """Return the name of the StatefulSet or Deployment of a resource's component."""
    return f"{resource}-{component}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The SeesawDeployment that objects belong to."""

    name: str
    namespace: str
    uid: str

    @property
    def worker(self) -> str:
        return workload_name(self.name, WORKER)

    @property
    def router(self) -> str:
        return workload_name(self.name, ROUTER)

    @property
    def url(self) -> str:
        """What an OpenAI client in the cluster takes as its base URL."""
        return f"http://{self.name}.{self.namespace}.svc/v1"

    @property
    def marks(self) -> dict[str, str]:
        """Labels by which an object is known as this resource's, whatever it is for."""
        return {DEPLOYMENT_LABEL: self.name, MANAGED_BY_LABEL: MANAGER}

    def selector(self, component: str) -> dict[str, str]:
        return {DEPLOYMENT_LABEL: self.name, COMPONENT_LABEL: component}

    def labels(self, component: str) -> dict[str, str]:
        return (
            self.selector(component)
            | self.marks
            | {"app.kubernetes.io/name": "seesaw", "app.kubernetes.io/instance": self.name}
        )

    def metadata(self, name: str, component: str) -> Manifest:
        """Metadata of an object that goes when its owner goes."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": self.labels(component),
            "ownerReferences": [
                {
                    "apiVersion": f"{GROUP}/{VERSION}",
                    "kind": KIND,
                    "name": self.name,
                    "uid": self.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }
