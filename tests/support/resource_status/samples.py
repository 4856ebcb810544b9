"""What an operator may observe of a resource, and the status that it reports."""

import dataclasses
import datetime as dt
from typing import Any

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Status
from seesaw_operator.components.all import COMPONENTS
from seesaw_operator.names import Owner
from seesaw_operator.status.observed import Desired, Observed, ObservedComponent
from seesaw_operator.status.resource_status import StatusContext, status_of

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
    status: dict[str, Any] = {"replicas": 1, "updatedReplicas": updated, "availableReplicas": 1}
    status |= {"observedGeneration": 1}
    return {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": status}


def observed(*workers: dict[str, Any], routers: tuple[Any, ...] = (ready("r"),)) -> Observed:
    return Observed(
        components={each.name: ObservedComponent(kind=each.kind) for each in COMPONENTS}
        | {
            "worker": ObservedComponent(kind="StatefulSet", body=stateful_set(), pods=workers),
            "router": ObservedComponent(kind="Deployment", body=deployment(), pods=routers),
        }
    )


def with_body(found: Observed, component: str, body: dict[str, Any] | None) -> Observed:
    """The same with another StatefulSet or Deployment."""
    changed = dataclasses.replace(found.components[component], body=body)
    return dataclasses.replace(found, components={**found.components, component: changed})


def nothing() -> Observed:
    return Observed(
        components={each.name: ObservedComponent(kind=each.kind) for each in COMPONENTS}
    )


def desired(replicas: int, routers: int) -> Desired:
    others = dict.fromkeys((each.name for each in COMPONENTS), 0)
    return Desired(num_pods=others | {"worker": replicas, "router": routers})


def conditions(found: Observed, spec: Spec = SPEC, old: Status | None = None) -> dict[str, Any]:
    status = reported(found, spec, old)
    return {c.type: c for c in status.conditions}


def reported(
    found: Observed, spec: Spec = SPEC, old: Status | None = None, now: str = NOW
) -> Status:
    return status_of(context(old, now), spec, found)


def context(old: Status | None, now: str = NOW) -> StatusContext:
    return StatusContext(
        components=COMPONENTS,
        owner=OWNER,
        previous=old or Status(),
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
