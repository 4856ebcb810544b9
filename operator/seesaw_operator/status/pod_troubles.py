"""Why a pod does not serve: a reason, a sentence and the next step. Pure."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from seesaw_operator.status.condition_state import Cause
from seesaw_operator.status.pods import (
    STARTING,
    Pod,
    condition,
    containers,
    has_failed,
    is_ready,
    is_terminating,
)
from seesaw_operator.text import one_line, sanitized

_WAITING = {
    "ErrImagePull": "ImagePullFailed",
    "ImagePullBackOff": "ImagePullFailed",
    "InvalidImageName": "ImagePullFailed",
    "ErrImageNeverPull": "ImagePullFailed",
    "CreateContainerConfigError": "ContainerConfigError",
    "CreateContainerError": "ContainerConfigError",
    "RunContainerError": "ContainerConfigError",
}
_NEXT_STEPS = {
    "ImagePullFailed": "Check engine.image (router.image), and that the node may pull it.",
    "ContainerConfigError": "Check engine.env and podTemplate, and the Secrets and ConfigMaps that "
    "they name.",
    "VolumeMissing": "Check model.uri and podTemplate: pvc://CLAIM/PATH and volumes name claims of "
    "this namespace, and a claim must be bound.",
    "ContainerCreating": "See the pod's events: kubectl describe pod {pod}",
    "Evicted": "Give the pods what their node ran out of: engine.resources, or more disk.",
    "Failed": "See the pod: kubectl describe pod {pod}",
    "ContainerWaiting": "See the pod's events: kubectl describe pod {pod}",
    "NodeLost": "See the node: kubectl describe node {node}",
    "OutOfMemory": "Raise engine.resources.memory, or lower kvBuffer.size.",
    "InvalidInput": "Change what the message names.",
    "Crashing": "See the log: kubectl logs {pod} --previous",
    "Added": "See {container}, which podTemplate adds: kubectl describe pod {pod}",
}
# The fields of the spec from which the operator sets the flags that a worker's errors name.
_FIELDS = {
    "--kv-buffer-gib": "kvBuffer.size",
    "--prefill-tensor-parallel-size": "parallelism.prefill.tensor",
    "--prefill-pipeline-parallel-size": "parallelism.prefill.pipeline",
    "--decode-tensor-parallel-size": "parallelism.decode.tensor",
    "--decode-pipeline-parallel-size": "parallelism.decode.pipeline",
    "--elastic-instances": "parallelism.elastic.instances",
    "--tensor-parallel-size": "parallelism.elastic.tensor",
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
_BACK_OFF = "CrashLoopBackOff"
_BAD_INPUT_EXIT_CODE = 2
_OUR_ERROR = re.compile(r"^seesaw (?:worker|router): (.+)$", re.MULTILINE)


def trouble(
    pod: Pod,
    warnings: Mapping[str, str],
    *,
    is_own_container: Callable[[str], bool],
    unschedulable: str,
) -> Cause | None:
    """Return the first thing that keeps a pod from serving; None if the pod is merely starting.

    warnings: what Kubernetes recorded about pods, by their uids.
    is_own_container: whether the operator, and not a user's pod template, defines a container.
    unschedulable: the next step where no node is found for the pod.
    """
    if is_ready(pod) or is_terminating(pod):
        return None
    if has_failed(pod):
        return _failed(pod, is_own_container)
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        message = scheduled.get("message", "")
        is_about_volume = "volume" in message.lower()  # or a PersistentVolumeClaim
        step = _NEXT_STEPS["VolumeMissing"] if is_about_volume else unschedulable
        return _cause(pod, "Unschedulable", message, step)
    if _is_cut_off(pod):
        message = "its containers ran, but its node no longer reports it"
        return _cause(pod, "NodeLost", message, _NEXT_STEPS["NodeLost"])
    found = _first_container_trouble(pod, is_own_container)
    warning = warnings.get(pod["metadata"].get("uid", ""))
    if found is not None or warning is None:
        return found
    return _cause(pod, "ContainerCreating", warning, _NEXT_STEPS["ContainerCreating"])


def _is_cut_off(pod: Pod) -> bool:
    """Whether a pod is not ready although its containers are: its node is gone or silent."""
    ready, ready_containers = (
        condition(pod, kind).get("status") for kind in ("Ready", "ContainersReady")
    )
    if ready == "Unknown":
        return True
    is_odd = (ready, ready_containers) == ("False", "True")
    return is_odd and not pod["spec"].get("readinessGates")


def _failed(pod: Pod, is_own_container: Callable[[str], bool]) -> Cause | None:
    """Return why a pod will not run again, such as one that its node has evicted."""
    status = pod["status"]
    message = status.get("message") or status.get("reason")
    if not message:
        return _first_container_trouble(pod, is_own_container)
    reason = "Evicted" if status.get("reason") == "Evicted" else "Failed"
    return _cause(pod, reason, message, _NEXT_STEPS[reason])


def _first_container_trouble(pod: Pod, is_own_container: Callable[[str], bool]) -> Cause | None:
    for status in containers(pod):
        name = str(status["name"])
        is_own = is_own_container(name)
        fault = _fault(status, is_own=is_own)
        if fault is None:
            continue
        reason, message = fault.reason, fault.message
        if is_own:
            return _cause(pod, reason, message, _NEXT_STEPS[reason])
        step = _NEXT_STEPS["Added"].replace("{container}", name)
        return _cause(pod, reason, f"{name}: {message}", step)
    return None


def _fault(status: dict[str, Any], *, is_own: bool) -> Cause | None:
    """Return what keeps a container from running, in words that do not name the pod."""
    state = status.get("state", {})
    waiting = state.get("waiting", {})
    why = waiting.get("reason") or ""
    if why in _WAITING or why not in ("", _BACK_OFF, *STARTING):
        message = waiting.get("message") or why
        return Cause(
            reason=_WAITING.get(why, "ContainerWaiting"),
            message=message if why in message else f"{why}: {message}",
        )
    ended = state.get("terminated") or status.get("lastState", {}).get("terminated")
    if ended is None:
        return None
    if ended.get("reason") == "OOMKilled":
        message = "a process needed more memory than its container has"
        return Cause(reason="OutOfMemory", message=message)
    code = ended.get("exitCode")
    if code == 0:
        message = "it ends by itself, with exit code 0, and is started again and again"
        return Cause(reason="Crashing", message=message) if why == _BACK_OFF else None
    message = ended.get("message") or ""
    lines = [line for line in map(one_line, message.splitlines()) if line]
    if is_own and code == _BAD_INPUT_EXIT_CODE and lines:
        return Cause(reason="InvalidInput", message=_with_fields(message.strip()))
    return Cause(reason="Crashing", message=lines[-1] if lines else f"exit code {code}")


def _with_fields(message: str) -> str:
    """Return what one of our commands refused, with the fields of the spec that set its flags."""
    errors = _OUR_ERROR.findall(message)
    error = errors[-1] if errors else message
    fields = [f"{flag} is {field}" for flag, field in _FIELDS.items() if flag in error]
    if "GiB of memory are available" in error:
        fields.append("what is available is engine.resources.memory")
    return " · ".join([error.rstrip("."), *fields])


def _cause(pod: Pod, reason: str, message: str, next_step: str) -> Cause:
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "")
    step = next_step.replace("{pod}", name).replace("{node}", node)
    said = sanitized(message).rstrip(".") or "no message says why"
    return Cause(reason=reason, message=f"Pod {name}: {said}. {step}")
