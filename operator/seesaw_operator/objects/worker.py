"""The objects of the workers: a StatefulSet with a pod per replica, and what belongs to it.

A rollout replaces one pod at a time, the last first, and never has more pods than there are devices
for. Kubernetes continues with the next pod only once the last one serves.
"""

from seesaw_operator.api.crd import GROUP
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import WORKER, WORKER_PORT, Manifest, Owner
from seesaw_operator.objects.context import Context
from seesaw_operator.objects.layouts import num_engines
from seesaw_operator.objects.worker_pod import pod_template, port_name

PLANNED_FOR = f"{GROUP}/planned-for"
"""The annotation of the StatefulSet that records the applied workload, as JSON."""


def worker_objects(context: Context) -> list[Manifest]:
    """Return everything that the workers need, in the order in which to create it."""
    return [
        _service_account(context.owner),
        _headless_service(context.spec, context.owner),
        _disruption_budget(context.owner),
        _stateful_set(context),
    ]


def _service_account(owner: Owner) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": owner.metadata(owner.worker, WORKER),
        "automountServiceAccountToken": False,
    }


def _headless_service(spec: Spec, owner: Owner) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(owner.worker, WORKER),
        "spec": {
            "clusterIP": "None",
            "selector": owner.selector(WORKER),
            "ports": [
                {"name": port_name(i), "port": WORKER_PORT + i, "targetPort": port_name(i)}
                for i in range(num_engines(spec))
            ],
        },
    }


def _disruption_budget(owner: Owner) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(owner.worker, WORKER),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": owner.selector(WORKER)},
            # Losing a pod that does not serve costs nothing, so it must not block a node's drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _stateful_set(context: Context) -> Manifest:
    spec, owner, applied = context.spec, context.owner, context.applied
    metadata = owner.metadata(owner.worker, WORKER)
    if applied is not None:
        metadata["annotations"] = {PLANNED_FOR: applied.model_dump_json(by_alias=True)}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": {
            "replicas": spec.replicas,
            "serviceName": owner.worker,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {
                "type": "RollingUpdate",
                # Pods below the partition stay as they are. One that ends is created again as it
                # was before the rollout that is under way.
                "rollingUpdate": {"partition": spec.replicas if spec.paused else 0},
            },
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": owner.selector(WORKER)},
            "template": pod_template(context),
        },
    }
