"""A cluster that accepts everything, and an operator that reconciles a resource in it."""

from collections.abc import Sequence
from typing import Any

from seesaw_operator.cluster.store import Key, Object, Store
from seesaw_operator.components.all import COMPONENTS
from seesaw_operator.loop.reconcile import Measurements, Reconciler
from seesaw_operator.names import Owner
from seesaw_operator.settings import Images, OperatorSettings, Timing
from seesaw_operator.status.component import Component

KEY = Key("team", "llama")
RESOURCE: Object = {
    "metadata": {"name": "llama", "namespace": "team", "uid": "1", "generation": 1},
    "spec": {"model": {"uri": "org/m"}, "accelerator": {"resourceName": "cpu"}},
}


class Cluster:
    """Accepts everything, and remembers it."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.status: dict[str, Any] = {}
        self.events: list[str] = []

    async def apply(self, manifest: Object, *, is_there: bool) -> Object:
        metadata = manifest["metadata"]
        self.objects[f"{manifest['kind']} {metadata['name']}"] = manifest
        return manifest | {"metadata": metadata | {"uid": metadata["name"], "resourceVersion": "1"}}

    async def find(self, manifest: Object) -> Object | None:
        return None

    async def is_wanted(self, owner: Owner) -> bool:
        return True

    async def claim(self, resource: Object, operator: str) -> bool:
        return True

    async def is_operator_alive(self, operator: str, namespace: str) -> bool:
        return False

    async def warning(self, namespace: str, kind: str, uid: str) -> str | None:
        return None

    async def record(self, resource: Object, kind: str, reason: str, message: str) -> None:
        self.events.append(reason)

    async def write_status(self, namespace: str, name: str, status: dict[str, Any]) -> bool:
        self.status = {each["type"]: each for each in status["conditions"]}
        return True


def reconciler_of(
    cluster: Cluster,
    store: Store,
    measurements: Measurements,
    components: Sequence[Component] = COMPONENTS,
) -> Reconciler:
    """An operator that has just started."""
    settings = OperatorSettings(
        images=Images(worker="w", worker_cpu="c", router="r"),
        timing=Timing(),
        lease_namespace="default",
    )
    return Reconciler(
        cluster=cluster,
        store=store,
        measurements=measurements,
        settings=settings,
        profiles={},
        components=components,
    )
