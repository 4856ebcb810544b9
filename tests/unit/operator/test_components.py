"""A component is one value: its objects, its condition and its troubles need no other module."""

from seesaw_operator.cluster.store import Key, Store
from seesaw_operator.components.all import COMPONENTS
from seesaw_operator.names import Manifest, Owner
from seesaw_operator.objects.context import Context
from seesaw_operator.status.component import Component
from seesaw_operator.status.condition_state import Cause, Truth
from seesaw_operator.status.observed import Desired, Observed, ObservedComponent
from support.resource_status.fake_cluster import KEY, RESOURCE, Cluster, reconciler_of
from support.resource_status.samples import crashed


def cache_objects(context: Context, _: ObservedComponent) -> list[Manifest]:
    metadata = context.owner.metadata("llama-cache", "cache")
    spec = {"replicas": 1, "model": context.spec.model.uri}
    return [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}]


def cache_condition(desired: Desired, observed: Observed, _: Owner) -> tuple[Truth, Cause]:
    is_filled = observed.components["cache"].num_serving >= desired.num_pods["cache"]
    cause = Cause(reason="Filled" if is_filled else "Filling", message="The cache is filled once.")
    return "True" if is_filled else "False", cause


CACHE = Component(
    name="cache",
    kind="Deployment",
    condition_type="CacheReady",
    objects=cache_objects,
    num_pods=lambda _: 1,
    condition=cache_condition,
)


class NoMeasurements:
    def of(self, key: Key) -> None:
        return None

    def plan_of(self, key: Key) -> None:
        return None

    def has_measured(self, key: Key) -> bool:
        return True


async def test_a_third_component_is_applied_reported_and_degrades() -> None:
    cluster, store = Cluster(), Store()
    store.put_resource(RESOURCE)
    reconciler = reconciler_of(cluster, store, NoMeasurements(), (*COMPONENTS, CACHE))
    await reconciler.reconcile(KEY)
    assert cluster.objects["Deployment llama-cache"]["spec"]["model"] == "org/m"
    assert (cluster.status["CacheReady"]["reason"], cluster.status["Degraded"]["status"]) == (
        "Filling",
        "False",
    )
    sick = crashed("llama-cache-1", 1, "no space left", container="fill")
    owner = {"kind": "ReplicaSet", "name": "llama-cache-5d4f", "controller": True}
    sick["kind"] = "Pod"
    sick["metadata"] |= {
        "namespace": "team",
        "labels": {
            "seesaw.dev/deployment": "llama",
            "app.kubernetes.io/component": "cache",
            "pod-template-hash": "5d4f",
        },
        "ownerReferences": [owner],
    }
    store.put_child(sick)
    await reconciler.reconcile(KEY)
    assert (cluster.status["Degraded"]["status"], cluster.status["Degraded"]["reason"]) == (
        "True",
        "Crashing",
    )
    assert "no space left" in cluster.status["Degraded"]["message"]
    assert "Crashing" in cluster.events
