"""What an operator may see of a resource, and the status that it makes of it."""

import datetime as dt
from typing import Any

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Status
from seesaw_operator.names import Owner
from seesaw_operator.status.observed import Observed
from seesaw_operator.status.resource_status import (
    Before,
    status_of,
)

OWNER = Owner(name="llama", namespace="team", uid="1")
METADATA = {"name": "llama-worker", "uid": "uid of the StatefulSet", "generation": 1}
NOW = "2026-01-01T00:00:00Z"
SPEC = Spec.model_validate({"model": {"uri": "org/m"}, "accelerator": {"count": 2}, "replicas": 2})


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": f"uid of {name}"}, "status": status}


def ready(name: str) -> dict[str, Any]:
    return pod(name, conditions=[{"type": "Ready", "status": "True"}])


def crashed(
    name: str, code: int, message: str = "", reason: str = "Error", container: str = "engine-0"
) -> dict[str, Any]:
    ended = {"exitCode": code, "message": message, "reason": reason}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    status = {"name": container, "state": waiting, "lastState": {"terminated": ended}}
    return pod(name, containerStatuses=[status])


def stateful_set(replicas: int = 2, updated: int = 2) -> dict[str, Any]:
    status = {"replicas": replicas, "updatedReplicas": updated, "observedGeneration": 1}
    return {"metadata": METADATA, "spec": {"replicas": 2}, "status": status}


def deployment(updated: int = 1) -> dict[str, Any]:
    status = {"replicas": 1, "updatedReplicas": updated, "availableReplicas": 1}
    told = status | {"observedGeneration": 1}
    return {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": told}


def observed(*workers: dict[str, Any], routers: tuple[Any, ...] = (ready("r"),)) -> Observed:
    return Observed(
        stateful_set=stateful_set(),
        router=deployment(),
        worker_pods=workers,
        router_pods=routers,
        measured=None,
    )


def conditions(seen: Observed, spec: Spec = SPEC, old: Status | None = None) -> dict[str, Any]:
    status = told(seen, spec, old)
    return {c.type.value: c for c in status.conditions}


def told(seen: Observed, spec: Spec = SPEC, old: Status | None = None, now: str = NOW) -> Status:
    return status_of(spec, OWNER, seen, before(old, now))


def before(old: Status | None, now: str = NOW) -> Before:
    return Before(
        status=old or Status(),
        generation=7,
        now=dt.datetime.fromisoformat(now),
        progress_deadline_s=600,
    )


def truth(status: Status, name: str) -> str:
    return next(c.status for c in status.conditions if c.type == name)


def unscheduled(name: str, message: str, component: str = "worker") -> dict[str, Any]:
    made = pod(name, conditions=[{"type": "PodScheduled", "status": "False", "message": message}])
    made["metadata"]["labels"] = {"app.kubernetes.io/component": component}
    return made
