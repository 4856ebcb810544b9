"""What a status says: conditions with reasons, messages and next steps, from what is seen."""

import dataclasses
from typing import Any

import pytest

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Status
from seesaw_operator.conditions import Observed, rejected, status_of
from seesaw_operator.names import Owner

OWNER = Owner(name="llama", namespace="team", uid="1")
SPEC = Spec.model_validate({"model": {"uri": "org/m"}, "accelerator": {"count": 2}, "replicas": 2})


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": status}


def ready(name: str) -> dict[str, Any]:
    return pod(name, conditions=[{"type": "Ready", "status": "True"}])


def crashed(name: str, code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    ended = {"exitCode": code, "message": message, "reason": reason}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    return pod(name, containerStatuses=[{"state": waiting, "lastState": {"terminated": ended}}])


def stateful_set(replicas: int = 2, updated: int = 2) -> dict[str, Any]:
    status = {"replicas": replicas, "updatedReplicas": updated, "observedGeneration": 1}
    return {"metadata": {"generation": 1}, "status": status}


def deployment(updated: int = 1) -> dict[str, Any]:
    status = {"replicas": 1, "updatedReplicas": updated, "availableReplicas": 1}
    return {"metadata": {"generation": 1}, "status": status | {"observedGeneration": 1}}


def observed(*workers: dict[str, Any], routers: tuple[Any, ...] = (ready("r"),)) -> Observed:
    return Observed(
        stateful_set=stateful_set(),
        router=deployment(),
        worker_pods=workers,
        router_pods=routers,
        measured=None,
    )


def conditions(seen: Observed, spec: Spec = SPEC, old: Status | None = None) -> dict[str, Any]:
    status = status_of(spec, OWNER, 7, seen, old or Status(), "2026-01-01T00:00:00Z")
    return {c.type.value: c for c in status.conditions}


def test_all_is_well_when_all_pods_serve() -> None:
    found = conditions(observed(ready("a"), ready("b")))
    truths = {name: c.status for name, c in found.items()}
    assert truths == {
        "Accepted": "True",
        "WorkersReady": "True",
        "RouterReady": "True",
        "Progressing": "False",
        "Ready": "True",
        "Degraded": "False",
    }
    assert found["Ready"].message == "Serving at http://llama.team.svc/v1."
    assert {c.observed_generation for c in found.values()} == {7}


def test_it_is_ready_as_long_as_one_worker_and_one_router_serve() -> None:
    found = conditions(observed(ready("a"), crashed("b", 1, "boom")))
    assert found["Ready"].status == "True"
    assert found["WorkersReady"].status == "False"
    assert found["Degraded"].status == "True"


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
                containerStatuses=[
                    {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}}
                ],
            ),
            "ImagePullFailed",
            ["no such tag", "engine.image"],
            id="an image that cannot be pulled",
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
    loading = pod("a", containerStatuses=[{"state": {"running": {}}}])
    found = conditions(observed(loading, routers=()))
    assert found["Degraded"].status == "False"
    assert found["Ready"].reason == "NotAllServe"


def test_it_progresses_while_routers_are_replaced() -> None:
    seen = observed(ready("a"), ready("b"))
    rolling = dataclasses.replace(seen, router=deployment(updated=0))
    assert conditions(seen)["Progressing"].status == "False"
    assert conditions(rolling)["Progressing"].reason == "RollingOut"


@pytest.mark.parametrize("served", [True, False])
def test_what_is_not_accepted_leaves_what_serves_as_it_was(served: bool) -> None:
    seen = observed(ready("a"), ready("b")) if served else observed(routers=())
    old = status_of(SPEC, OWNER, 6, seen, Status(), "2025-01-01T00:00:00Z")
    new = rejected("NotApplied", "quota", 7, old, "2026-01-01T00:00:00Z")
    found = {c.type.value: c for c in new.conditions}
    assert len(found) == len(new.conditions) == 6
    assert (found["Accepted"].status, found["Accepted"].message) == ("False", "quota")
    assert found["Ready"].reason == ("Serving" if served else "NotApplied")
    assert new.observed_generation == 7


def test_scaled_to_zero_is_not_ready_and_says_so() -> None:
    spec = SPEC.model_copy(update={"replicas": 0})
    found = conditions(observed(routers=()), spec)
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "ScaledToZero")


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    old = status_of(
        SPEC, OWNER, 6, observed(ready("a"), ready("b")), Status(), "2025-01-01T00:00:00Z"
    )
    found = conditions(observed(ready("a")), old=old)
    assert found["Ready"].last_transition_time == "2025-01-01T00:00:00Z"
    assert found["WorkersReady"].last_transition_time == "2026-01-01T00:00:00Z"


def unscheduled(name: str, message: str, component: str = "worker") -> dict[str, Any]:
    made = pod(name, conditions=[{"type": "PodScheduled", "status": "False", "message": message}])
    made["metadata"]["labels"] = {"app.kubernetes.io/component": component}
    return made


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


def test_it_progresses_until_every_worker_serves() -> None:
    found = conditions(observed(ready("a"), pod("b")))
    assert (found["Progressing"].status, found["Progressing"].reason) == ("True", "Starting")
    assert found["Progressing"].message == "1 of 2 worker pods serve."
