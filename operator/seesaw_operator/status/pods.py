"""Facts about one pod, as the apiserver reports it. Pure."""

import datetime as dt
from typing import Any

Pod = dict[str, Any]

STARTING = ("ContainerCreating", "PodInitializing")
_SLOW_S = 20  # a pod whose creation takes longer may wait for something that never comes


def is_ready(pod: Pod) -> bool:
    """Whether a pod serves and is not terminating."""
    return not is_terminating(pod) and condition(pod, "Ready").get("status") == "True"


def is_controlled_by(pod: Pod, kind: str, name: str, body: Pod | None) -> bool:
    """Whether a StatefulSet or Deployment of that name created a pod or adopted it.

    Labels alone prove nothing. A Deployment controls pods through ReplicaSets, which bear its name
    and the hash of the pod template.
    """
    owners = pod["metadata"].get("ownerReferences") or ()
    controller: dict[str, Any] = next((owner for owner in owners if owner.get("controller")), {})
    if kind == "StatefulSet":
        return body is not None and controller.get("uid") == body["metadata"]["uid"]
    template = pod["metadata"].get("labels", {}).get("pod-template-hash")
    return (controller.get("kind"), controller.get("name")) == ("ReplicaSet", f"{name}-{template}")


def is_terminating(pod: Pod) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def terminates_by(pod: Pod) -> str | None:
    """Return when the grace period of a terminating pod ends, as Kubernetes writes times.

    Return None if the pod is not terminating.
    """
    deadline: str | None = pod["metadata"].get("deletionTimestamp")
    return deadline


def has_failed(pod: Pod) -> bool:
    """Whether a pod will not run again. Its controller creates another one."""
    return bool(pod.get("status", {}).get("phase") == "Failed")


def ip(pod: Pod) -> str | None:
    address: str | None = pod.get("status", {}).get("podIP")
    return address


def is_slow_to_create(pod: Pod, now: dt.datetime) -> bool:
    """Whether a pod has a node, but its containers have not been created for a while."""
    began = pod.get("status", {}).get("startTime")
    reasons = (c.get("state", {}).get("waiting", {}).get("reason") for c in containers(pod))
    if is_terminating(pod) or began is None or not any(reason in STARTING for reason in reasons):
        return False
    return (now - dt.datetime.fromisoformat(began)).total_seconds() > _SLOW_S


def containers(pod: Pod) -> list[dict[str, Any]]:
    """Return the statuses of all containers, init containers first."""
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def condition(pod: Pod, kind: str) -> dict[str, Any]:
    """Return one condition of a pod, or an empty one."""
    found = pod.get("status", {}).get("conditions", ())
    return next((each for each in found if each["type"] == kind), {})
