"""What is wrong with a pod, in a reason, a sentence and the next step."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seesaw_operator.api import owned
from seesaw_operator.names import COMPONENT_LABEL
from seesaw_operator.objects.router import COMPONENT as ROUTER
from seesaw_operator.text import quoted

Pod = dict[str, Any]

_WAITING = {
    "ErrImagePull": "ImagePullFailed",
    "ImagePullBackOff": "ImagePullFailed",
    "InvalidImageName": "ImagePullFailed",
    "ErrImageNeverPull": "ImagePullFailed",
    "CreateContainerConfigError": "ContainerConfigError",
    "CreateContainerError": "ContainerConfigError",
    "RunContainerError": "ContainerConfigError",
}
_NEXT = {
    "ImagePullFailed": "Check engine.image (router.image), and that the node may pull it.",
    "ContainerConfigError": "Check engine.env and podTemplate, and the Secrets and ConfigMaps that "
    "they name.",
    "Unschedulable": "Free or add devices, or lower accelerator.count, replicas or "
    "engine.resources; engine.nodeSelector, engine.tolerations and engine.podTemplate say which "
    "nodes may be used.",
    "RouterUnschedulable": "Free processor cores or memory, or lower router.replicas or "
    "router.resources; router.podTemplate says which nodes may be used.",
    "VolumeMissing": "Check model.uri and podTemplate: pvc://CLAIM/PATH and volumes name claims of "
    "this namespace, and a claim must be bound.",
    "ContainerCreating": "Look at the pod's events: kubectl describe pod {pod}",
    "Evicted": "Give the pods what their node ran out of: engine.resources, or more disk.",
    "Failed": "Look at the pod: kubectl describe pod {pod}",
    "ContainerWaiting": "Look at the pod's events: kubectl describe pod {pod}",
    "NodeLost": "Look at the node: kubectl describe node {node}",
    "OutOfMemory": "Raise engine.resources.memory, or lower kvBuffer.size.",
    "InvalidInput": "Change what the message names.",
    "Crashing": "Look at the log: kubectl logs {pod} --previous",
    "Added": "Look at {container}, which podTemplate adds: kubectl describe pod {pod}",
}
# Which field of the spec a flag is made of, for those that the worker's errors name.
_FIELDS = {
    "--kv-buffer-gib": "kvBuffer.size",
    "--prefill-tensor-parallel-size": "parallelism.prefill.tensor",
    "--prefill-pipeline-parallel-size": "parallelism.prefill.pipeline",
    "--decode-tensor-parallel-size": "parallelism.decode.tensor",
    "--decode-pipeline-parallel-size": "parallelism.decode.pipeline",
    "--parallelism": "parallelism.mode",
    "--devices": "accelerator.count",
    "--accelerator": "accelerator.product",
    "--plan-prompt-tokens": "planning.promptTokens",
    "--plan-output-tokens": "planning.outputTokens",
    "--plan-concurrency": "planning.concurrency",
    "--max-model-len": "model.maxModelLen",
    "--served-model-name": "model.name",
    "--flush-timeout-s": "waves.maxWait",
    "--model": "model.uri",
}
_STARTING = ("ContainerCreating", "PodInitializing")
_BACK_OFF = "CrashLoopBackOff"
_BAD_INPUT_EXIT = 2
_OUR_ERROR = re.compile(r"^seesaw (?:worker|router): (.+)$", re.MULTILINE)
_CREATING_S = 20  # a pod that takes longer may be waiting for something that never comes


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a pod does not serve, and what to do."""

    reason: str
    message: str


def is_ready(pod: Pod) -> bool:
    """Whether it serves and is to stay."""
    return not is_going(pod) and _condition(pod, "Ready").get("status") == "True"


def is_of_stateful_set(pod: Pod, stateful_set: Pod | None) -> bool:
    """Whether a StatefulSet made a pod, or has adopted it: labels alone say nothing."""
    controller = _controller(pod)
    return stateful_set is not None and controller.get("uid") == stateful_set["metadata"]["uid"]


def is_of_deployment(pod: Pod, name: str) -> bool:
    """Whether a Deployment of that name made a pod, through a ReplicaSet that bears its hash."""
    controller = _controller(pod)
    template = pod["metadata"].get("labels", {}).get("pod-template-hash")
    return (controller.get("kind"), controller.get("name")) == ("ReplicaSet", f"{name}-{template}")


def is_going(pod: Pod) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def drains_until(pod: Pod) -> str | None:
    """When a pod that is going must have ended, as Kubernetes writes times; None if it stays."""
    until: str | None = pod["metadata"].get("deletionTimestamp")
    return until


def has_failed(pod: Pod) -> bool:
    """Whether it will not run again; its controller makes another one."""
    return bool(pod.get("status", {}).get("phase") == "Failed")


def ip(pod: Pod) -> str | None:
    address: str | None = pod.get("status", {}).get("podIP")
    return address


def is_being_created(pod: Pod, now: dt.datetime) -> bool:
    """Whether a pod has a node, and its containers have not been made for a while."""
    status = pod.get("status", {})
    states = [c.get("state", {}).get("waiting", {}) for c in _containers(pod)]
    began = status.get("startTime")
    if is_going(pod) or began is None or not any(map(_is_creating, states)):
        return False
    return (now - dt.datetime.fromisoformat(began)).total_seconds() > _CREATING_S


def trouble(pod: Pod, warnings: Mapping[str, str]) -> Trouble | None:
    """The first thing that keeps a pod from serving, if it is more than that it still starts.

    warnings: what Kubernetes has recorded about pods, by their uids.
    """
    if is_ready(pod) or is_going(pod):
        return None
    if has_failed(pod):
        return _failed(pod)
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        message = scheduled.get("message", "")
        return _trouble(pod, "Unschedulable", message, next_step=_to_schedule(pod, message))
    if _is_cut_off(pod):
        return _trouble(pod, "NodeLost", "its containers ran, and its node does not report it now")
    for status in _containers(pod):
        found = _container_trouble(pod, status)
        if found is not None:
            return found
    warning = warnings.get(pod["metadata"].get("uid", ""))
    return None if warning is None else _trouble(pod, "ContainerCreating", warning)


def _is_cut_off(pod: Pod) -> bool:
    """Whether a pod counts as not ready though its containers are: its node is gone or silent."""
    kinds = ("Ready", "ContainersReady")
    ready, containers = (_condition(pod, kind).get("status") for kind in kinds)
    if ready == "Unknown":
        return True
    return (ready, containers) == ("False", "True") and not pod["spec"].get("readinessGates")


def _failed(pod: Pod) -> Trouble | None:
    """Of a pod that will not run again, such as one that its node has evicted."""
    status = pod["status"]
    said = status.get("message") or status.get("reason")
    if not said:
        return next(
            (t for c in _containers(pod) if (t := _container_trouble(pod, c)) is not None), None
        )
    return _trouble(pod, "Evicted" if status.get("reason") == "Evicted" else "Failed", said)


def _containers(pod: Pod) -> list[dict[str, Any]]:
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]


def _is_creating(waiting: dict[str, Any]) -> bool:
    return waiting.get("reason") in _STARTING


def _container_trouble(pod: Pod, status: dict[str, Any]) -> Trouble | None:
    name = str(status["name"])
    is_ours = (owned.ROUTER if _is_router(pod) else owned.ENGINE).has(name)
    found = _wrong(status, is_ours=is_ours)
    if found is None:
        return None
    reason, said = found
    if is_ours:
        return _trouble(pod, reason, said)
    return _trouble(pod, reason, f"{name}: {said}", next_step="Added", container=name)


def _wrong(status: dict[str, Any], *, is_ours: bool) -> tuple[str, str] | None:
    """Reason and message of what keeps a container from running."""
    waiting = status.get("state", {}).get("waiting", {})
    why = waiting.get("reason") or ""
    if why in _WAITING or why not in ("", _BACK_OFF, *_STARTING):
        said = waiting.get("message") or why
        return _WAITING.get(why, "ContainerWaiting"), said if why in said else f"{why}: {said}"
    ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get(
        "terminated"
    )
    if ended is None:
        return None
    if ended.get("exitCode") == 0 and ended.get("reason") != "OOMKilled":
        again = "it ends by itself, with exit code 0, and is started again and again"
        return ("Crashing", again) if why == _BACK_OFF else None
    if ended.get("reason") == "OOMKilled":
        return "OutOfMemory", "a process needed more memory than its container has"
    said = ended.get("message", "").strip()
    if is_ours and ended.get("exitCode") == _BAD_INPUT_EXIT:
        return "InvalidInput", _named(said)
    return "Crashing", said.splitlines()[-1] if said else f"exit code {ended.get('exitCode')}"


def _named(said: str) -> str:
    """What one of our commands refused, with the fields that its flags are made of."""
    ours = _OUR_ERROR.findall(said)
    text = ours[-1] if ours else said
    fields = [f"{flag} is {field}" for flag, field in _FIELDS.items() if flag in text]
    if "GiB of memory are available" in text:
        fields.append("what is available is engine.resources.memory")
    return " · ".join([text.rstrip("."), *fields])


def _to_schedule(pod: Pod, message: str) -> str:
    """What would let a pod find its node: it depends on what is missing, and for whom."""
    said = message.lower()
    if "persistentvolumeclaim" in said or "volume" in said:
        return "VolumeMissing"
    return "RouterUnschedulable" if _is_router(pod) else "Unschedulable"


def _is_router(pod: Pod) -> bool:
    label: str | None = pod["metadata"].get("labels", {}).get(COMPONENT_LABEL)
    return label == ROUTER


def _trouble(
    pod: Pod, reason: str, message: str, next_step: str | None = None, container: str = ""
) -> Trouble:
    name = pod["metadata"]["name"]
    text = quoted(message).rstrip(".")
    node = pod.get("spec", {}).get("nodeName", "")
    then = _NEXT[next_step or reason].format(pod=name, container=container, node=node)
    return Trouble(reason=reason, message=f"Pod {name}: {text}. {then}")


def _controller(pod: Pod) -> dict[str, Any]:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), {})


def _condition(pod: Pod, kind: str) -> dict[str, Any]:
    found = pod.get("status", {}).get("conditions", ())
    return next((c for c in found if c["type"] == kind), {})
