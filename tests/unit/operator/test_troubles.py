"""What keeps a pod from serving is told with its reason, its words and the next step."""

import dataclasses
import datetime as dt
from typing import Any

import pytest

from seesaw_operator.cluster.events import last_warning
from seesaw_operator.status.observed import InvolvedObject, unexplained
from support.resource_status.samples import (
    conditions,
    crashed,
    deployment,
    desired,
    observed,
    pod,
    ready,
    stateful_set,
    unscheduled,
    with_body,
)


def test_pods_that_a_quota_refuses_are_trouble_with_the_quotas_words() -> None:
    said = 'pods "llama-worker-0" is forbidden: exceeded quota: gpus'
    none = stateful_set(replicas=0, updated=0)
    seen = dataclasses.replace(
        with_body(observed(), "worker", none), warnings={"uid of the StatefulSet": said}
    )
    found = conditions(seen)
    for name in ("Degraded", "Ready", "Available"):
        assert (found[name].reason, said in found[name].message) == ("PodsRefused", True)


def test_routers_that_a_quota_refuses_are_trouble_too() -> None:
    router = deployment(updated=0)
    router["metadata"]["name"] = "llama-router"
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}
    router["status"] |= {"conditions": [failure], "replicas": 0}
    seen = with_body(observed(ready("a"), ready("b"), routers=()), "router", router)
    assert conditions(seen)["Degraded"].reason == "PodsRefused"


def test_an_evicted_pod_says_what_its_node_ran_out_of() -> None:
    evicted = pod("a", phase="Failed", reason="Evicted", message="The node was low on memory")
    found = conditions(observed(evicted, ready("b")))
    assert found["Degraded"].reason == "Evicted"
    assert "low on memory" in found["Degraded"].message
    replaced = observed(ready("a"), ready("b"), routers=(evicted, ready("r")))
    assert conditions(replaced)["Degraded"].status == "False"


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    why = {"reason": reason, "message": message}
    return pod("a", containerStatuses=[{"name": "engine-0", "state": {"waiting": why}}])


@pytest.mark.parametrize(("age_s", "is_looked_at"), [(10, False), (40, True)])
def test_a_pod_that_is_created_for_long_says_what_it_waits_for(
    age_s: int, is_looked_at: bool
) -> None:
    creating = [{"name": "engine-0", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    began = "2026-01-01T00:00:00Z"
    seen = observed(pod("a", startTime=began, containerStatuses=creating), ready("b"))
    now = dt.datetime(2026, 1, 1, 0, 0, age_s, tzinfo=dt.UTC)
    sick = InvolvedObject(kind="Pod", uid="uid of a")
    assert unexplained(desired(2, 1), seen, now) == ([sick] if is_looked_at else [])
    if is_looked_at:
        said = 'MountVolume.SetUp failed: configmap "x" not found'
        found = conditions(dataclasses.replace(seen, warnings={sick.uid: said}))
        assert (found["Degraded"].reason, said in found["Degraded"].message) == (
            "ContainerCreating",
            True,
        )


@pytest.mark.parametrize(
    ("sick", "reason", "says"),
    [
        pytest.param(
            pod(
                "a",
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "message": "0/3 nodes: 3 Insufficient nvidia.com/gpu.",
                    }
                ],
            ),
            "Unschedulable",
            ["Insufficient nvidia.com/gpu", "accelerator.count"],
            id="too few devices",
        ),
        pytest.param(
            pod(
                "a",
                conditions=[
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "message": "0/1 nodes: pod has unbound immediate PersistentVolumeClaims.",
                    }
                ],
            ),
            "Unschedulable",
            ["unbound", "a claim must be bound"],
            id="a claim that is not bound",
        ),
        pytest.param(
            pod(
                "a",
                containerStatuses=[
                    {
                        "name": "engine-0",
                        "state": {
                            "waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}
                        },
                    }
                ],
            ),
            "ImagePullFailed",
            ["no such tag", "engine.image"],
            id="an image that cannot be pulled",
        ),
        pytest.param(
            crashed("a", 2, "seesaw worker: not ours\nbad flag", container="proxy"),
            "Crashing",
            ["proxy: bad flag", "podTemplate"],
            id="a container that the user adds",
        ),
        pytest.param(
            crashed("a", 2, "seesaw worker: not ours\nbad flag", container="router"),
            "Crashing",
            ["router: bad flag", "podTemplate"],
            id="one that has the name of a router's",
        ),
        pytest.param(
            crashed("a", 137, reason="OOMKilled", container="proxy"),
            "OutOfMemory",
            ["proxy: ", "podTemplate"],
            id="a container that the user adds and that needs more memory",
        ),
        pytest.param(
            crashed("a", 2, "INFO x\nseesaw worker: org/m: no such model; check the path\n"),
            "InvalidInput",
            ["org/m: no such model"],
            id="a model that is not there",
        ),
        pytest.param(
            crashed("a", 2, "seesaw worker: lower --kv-buffer-gib, or enlarge the mount"),
            "InvalidInput",
            ["--kv-buffer-gib is kvBuffer.size"],
            id="a KV buffer larger than the volume",
        ),
        pytest.param(
            crashed("a", 137, reason="OOMKilled"),
            "OutOfMemory",
            ["engine.resources.memory", "kvBuffer.size"],
            id="a KV buffer larger than the memory",
        ),
        pytest.param(
            crashed("a", 0, reason="Completed"),
            "Crashing",
            ["exit code 0", "again and again"],
            id="an engine that ends by itself",
        ),
        pytest.param(
            waiting("SignatureValidationFailed"),
            "ContainerWaiting",
            ["SignatureValidationFailed", "kubectl describe pod a"],
            id="a reason that nobody here has heard of",
        ),
        pytest.param(
            waiting("RegistryUnavailable", "registry.example.com: timeout"),
            "ContainerWaiting",
            ["RegistryUnavailable: registry.example.com: timeout"],
            id="a registry that is away",
        ),
        pytest.param(
            pod(
                "a",
                conditions=[
                    {"type": "Ready", "status": "False"},
                    {"type": "ContainersReady", "status": "True"},
                ],
            )
            | {"spec": {"nodeName": "node-7"}},
            "NodeLost",
            ["kubectl describe node node-7"],
            id="a node that is silent",
        ),
        pytest.param(
            crashed("a", 1, "\x1b[31mOSError: disk is full\n\x1b[0m"),
            "Crashing",
            ["Pod a: OSError: disk is full. "],
            id="a last line that only resets colours",
        ),
        pytest.param(
            crashed("a", 2, "\x1b[0m"),
            "Crashing",
            ["Pod a: exit code 2. "],
            id="a refusal without a word",
        ),
        pytest.param(
            crashed("a", 1, "one\nRuntimeError: boom"),
            "Crashing",
            ["RuntimeError: boom", "kubectl logs a --previous"],
            id="any other end",
        ),
    ],
)
def test_trouble_has_a_reason_a_message_and_a_next_step(
    sick: dict[str, Any], reason: str, says: list[str]
) -> None:
    found = conditions(observed(sick, routers=()))
    for name in ("Degraded", "Ready"):
        assert found[name].reason == reason
        assert all(part in found[name].message for part in says), found[name].message
    assert found["Ready"].status == "False"


def test_a_loading_worker_is_no_trouble() -> None:
    loading = pod("a", containerStatuses=[{"name": "engine-0", "state": {"running": {}}}])
    found = conditions(observed(loading, routers=()))
    assert found["Degraded"].status == "False"
    assert found["Available"].reason == "NotAllServe"


def event(kind: str, reason: str, time: str, message: str = "said") -> dict[str, Any]:
    return {"type": kind, "reason": reason, "message": message, "lastTimestamp": time}


NO_POD = "create Pod {} in StatefulSet w failed error: quota"
A_POD = "create Pod {} in StatefulSet w successful"
NO_NODE = event("Warning", "FailedScheduling", "2026-01-01T00:00:09Z")
NO_VOLUME = event("Warning", "FailedMount", "2026-01-01T00:00:05Z", "no volume")


@pytest.mark.parametrize(
    ("events", "told"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([NO_VOLUME], "no volume", id="what is wrong"),
        pytest.param([NO_NODE], None, id="there was no node"),
        pytest.param([NO_NODE, NO_VOLUME], "no volume", id="and something else is wrong"),
        pytest.param(
            [NO_VOLUME, event("Normal", "SandboxChanged", "2026-01-01T00:00:06Z")],
            "no volume",
            id="another attempt",
        ),
        pytest.param(
            [event("Warning", "RecreatingFailedPod", "2026-01-01T00:00:06Z")], None, id="a new pod"
        ),
        pytest.param(
            [NO_VOLUME, event("Normal", "Pulling", "2026-01-01T00:00:06Z")], None, id="it is over"
        ),
        pytest.param(
            [
                event("Warning", "FailedCreate", "2026-01-01T00:00:05Z", NO_POD.format("w-1")),
                event("Normal", "SuccessfulCreate", "2026-01-01T00:00:09Z", A_POD.format("w-0")),
            ],
            NO_POD.format("w-1"),
            id="another pod was made",
        ),
        pytest.param(
            [
                event("Warning", "FailedCreate", "2026-01-01T00:00:05Z", NO_POD.format("w-1")),
                event("Normal", "SuccessfulCreate", "2026-01-01T00:00:09Z", A_POD.format("w-1")),
            ],
            None,
            id="the same pod was made",
        ),
        pytest.param(
            [event("Normal", "Pulling", "2026-01-01T00:00:05Z"), NO_VOLUME],
            "no volume",
            id="in the same second",
        ),
        pytest.param(
            [
                event("Normal", "SuccessfulCreate", "2026-01-01T00:00:04Z"),
                {
                    "type": "Warning",
                    "reason": "FailedCreate",
                    "eventTime": "2026-01-01T00:00:03.000001Z",
                    "series": {"lastObservedTime": "2026-01-01T00:00:04.500000Z"},
                },
            ],
            "FailedCreate",
            id="a series, and no message",
        ),
    ],
)
def test_the_last_event_says_whether_something_is_wrong(
    events: list[dict[str, Any]], told: str | None
) -> None:
    assert last_warning(events) == told


def test_a_missing_claim_is_not_blamed_on_devices() -> None:
    found = conditions(observed(unscheduled("a", 'persistentvolumeclaim "models" not found')))
    assert "model.uri" in found["Degraded"].message
    assert "accelerator.count" not in found["Degraded"].message


def test_a_workers_trouble_is_told_before_a_routers_each_with_its_own_advice() -> None:
    lacking = unscheduled("r", "1 Insufficient cpu", component="router")
    worker = unscheduled("w", "1 Insufficient nvidia.com/gpu")
    found = conditions(observed(worker, routers=(lacking,)))
    assert "nvidia.com/gpu" in found["Degraded"].message
    assert "(1 more pod is in trouble.)" in found["Degraded"].message
    alone = conditions(observed(ready("w"), ready("v"), routers=(lacking,)))
    assert "router.replicas" in alone["Degraded"].message
