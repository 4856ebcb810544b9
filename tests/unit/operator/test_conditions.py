"""What a status says: conditions with reasons, messages and next steps, from what is seen."""

import dataclasses
import datetime as dt
from typing import Any

import pytest

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Status, read_status
from seesaw_operator.conditions import (
    Before,
    Obstacle,
    rejected,
    status_of,
    unavailable,
)
from seesaw_operator.names import Owner
from seesaw_operator.observed import Observed, Subject, Wanted, lacking, last_warning, wanted_by
from seesaw_operator.outlooks import is_at_rest, is_settled

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


def test_all_is_well_when_all_pods_serve() -> None:
    found = conditions(observed(ready("a"), ready("b")))
    truths = {name: c.status for name, c in found.items()}
    assert truths == {
        "Accepted": "True",
        "WorkersReady": "True",
        "RouterReady": "True",
        "Available": "True",
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Degraded": "False",
    }
    assert found["Ready"].message == "Serving at http://llama.team.svc/v1."
    assert {c.observed_generation for c in found.values()} == {7}


def test_it_is_available_as_long_as_one_worker_and_one_router_serve() -> None:
    found = conditions(observed(ready("a"), crashed("b", 1, "boom")))
    assert found["Available"].status == "True"
    assert found["WorkersReady"].status == "False"
    assert found["Degraded"].status == "True"


def test_it_is_not_ready_before_every_pod_is_as_the_latest_spec_says() -> None:
    broken = {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}
    rolling = dataclasses.replace(
        observed(ready("a"), pod("b", containerStatuses=[{"name": "engine-0", "state": broken}])),
        stateful_set=stateful_set(updated=1),
    )
    found = conditions(rolling)
    assert found["Available"].status == "True"
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "ImagePullFailed")
    assert found["Reconciling"].status == "True"


def test_it_is_stalled_once_nothing_has_moved_for_the_progress_deadline() -> None:
    seen = observed(ready("a"), crashed("b", 1, "boom"))
    first = told(seen, now="2026-01-01T00:00:00Z")
    assert (truth(first, "Stalled"), truth(first, "Reconciling")) == ("False", "True")
    assert truth(told(seen, old=first, now="2026-01-01T00:10:00Z"), "Stalled") == "False"
    late = told(seen, old=first, now="2026-01-01T00:10:01Z")
    assert (truth(late, "Stalled"), truth(late, "Reconciling")) == ("True", "False")
    assert "boom" in next(c.message for c in late.conditions if c.type == "Stalled")
    more = told(observed(ready("a"), ready("b")), old=late, now="2026-01-01T00:20:00Z")
    assert truth(more, "Stalled") == "False"


def truth(status: Status, name: str) -> str:
    return next(c.status for c in status.conditions if c.type == name)


def test_pods_that_a_quota_refuses_are_trouble_with_the_quotas_words() -> None:
    said = 'pods "llama-worker-0" is forbidden: exceeded quota: gpus'
    none = stateful_set(replicas=0, updated=0)
    seen = dataclasses.replace(
        observed(), stateful_set=none, warnings={"uid of the StatefulSet": said}
    )
    found = conditions(seen)
    for name in ("Degraded", "Ready", "Available"):
        assert (found[name].reason, said in found[name].message) == ("PodsRefused", True)


def test_routers_that_a_quota_refuses_are_trouble_too() -> None:
    router = deployment(updated=0)
    router["metadata"]["name"] = "llama-router"
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"}
    router["status"] |= {"conditions": [failure], "replicas": 0}
    seen = dataclasses.replace(observed(ready("a"), ready("b"), routers=()), router=router)
    assert conditions(seen)["Degraded"].reason == "PodsRefused"


def test_an_evicted_pod_says_what_its_node_ran_out_of() -> None:
    evicted = pod("a", phase="Failed", reason="Evicted", message="The node was low on memory")
    found = conditions(observed(evicted, ready("b")))
    assert found["Degraded"].reason == "Evicted"
    assert "low on memory" in found["Degraded"].message
    replaced = observed(ready("a"), ready("b"), routers=(evicted, ready("r")))
    assert conditions(replaced)["Degraded"].status == "False"


@pytest.mark.parametrize(("reshard", "prefill"), [("Never", "T2"), ("never", "T2"), ("Auto", "P2")])
def test_a_worker_that_never_reshards_has_one_layout(reshard: str, prefill: str) -> None:
    pair = {"prefill": {"pipeline": 2}, "decode": {"tensor": 2}}
    spec = Spec.model_validate({"model": {"uri": "m"}, "parallelism": pair, "reshard": reshard})
    layouts = told(observed(ready("a")), spec).layouts
    assert layouts is not None
    assert (layouts.prefill, layouts.decode) == (prefill, "T2")


@pytest.mark.parametrize(("age_s", "is_looked_at"), [(10, False), (40, True)])
def test_a_pod_that_is_created_for_long_says_what_it_waits_for(
    age_s: int, is_looked_at: bool
) -> None:
    creating = [{"name": "engine-0", "state": {"waiting": {"reason": "ContainerCreating"}}}]
    began = "2026-01-01T00:00:00Z"
    seen = observed(pod("a", startTime=began, containerStatuses=creating), ready("b"))
    now = dt.datetime(2026, 1, 1, 0, 0, age_s, tzinfo=dt.UTC)
    sick = Subject(kind="Pod", uid="uid of a")
    assert lacking(wanted_by(SPEC), seen, now) == ([sick] if is_looked_at else [])
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


def test_it_progresses_while_routers_are_replaced() -> None:
    seen = observed(ready("a"), ready("b"))
    rolling = dataclasses.replace(seen, router=deployment(updated=0))
    assert conditions(seen)["Reconciling"].status == "False"
    assert conditions(rolling)["Reconciling"].reason == "RollingOut"


REFUSAL = Obstacle(reason="NotApplied", message="quota")
LATER = "2026-01-01T01:00:00Z"


def test_while_a_spec_is_refused_what_is_seen_is_told_as_ever() -> None:
    old = told(observed(ready("a"), ready("b")), now="2025-01-01T00:00:00Z")
    seen = observed(ready("a"), crashed("b", 1, "boom"), routers=())
    in_force = seen.in_force(Wanted(replicas=9, routers=9))
    assert in_force == Wanted(replicas=2, routers=1), "what was applied, and not what is refused"
    new = rejected(in_force, OWNER, seen, before(old), REFUSAL)
    found = {c.type.value: c for c in new.conditions}
    assert len(found) == len(new.conditions) == 8
    assert (found["Stalled"].status, found["Reconciling"].status) == ("True", "False")
    for name in ("Accepted", "Ready", "Reconciling", "Stalled"):
        assert (found[name].reason, found[name].message) == ("NotApplied", "quota")
    for name in ("Available", "WorkersReady", "RouterReady"):
        assert found[name].status == "False", name
    assert (found["Degraded"].status, found["Degraded"].reason) == ("True", "Crashing")
    assert {c.observed_generation for c in new.conditions} == {7}
    assert (new.workers, new.ready_replicas, new.router_replicas) == ("1/2", 1, 0)
    assert new.layouts == old.layouts
    served = observed(ready("a"), ready("b"))
    again = rejected(in_force, OWNER, served, before(new), REFUSAL)
    assert truth(again, "Available") == truth(again, "WorkersReady") == "True"
    assert truth(again, "Degraded") == "False"


def test_a_spec_that_is_refused_from_the_start_has_no_pods_and_says_so() -> None:
    none = Observed(stateful_set=None, router=None, worker_pods=(), router_pods=(), measured=None)
    wanted = none.in_force(Wanted(replicas=3, routers=1))
    new = rejected(wanted, OWNER, none, before(None), REFUSAL)
    found = {c.type.value: c for c in new.conditions}
    assert found["WorkersReady"].message == "0 of 3 workers serve; there are no pods."
    assert found["RouterReady"].message == "No router serves yet; there are no pods."
    assert found["Available"].status == "False"


def test_an_apiserver_in_trouble_is_told_as_that_and_nothing_else_is_forgotten() -> None:
    seen = observed(ready("a"), ready("b"))
    old = told(seen, now="2025-01-01T00:00:00Z")
    trouble = Obstacle(reason="ApiUnavailable", message="failed calling webhook")
    new = unavailable(wanted_by(SPEC), OWNER, seen, before(old), trouble)
    found = {c.type.value: c for c in new.conditions}
    assert len(found) == len(new.conditions) == 8
    for name, status in (("Ready", "False"), ("Reconciling", "True")):
        assert (found[name].status, found[name].reason) == (status, "ApiUnavailable")
        assert "failed calling webhook" in found[name].message
    assert found["Accepted"] == old.conditions[0]
    assert (found["Available"].status, found["Stalled"].status) == ("True", "False")
    late = told(observed(ready("a")), old=told(observed(ready("a"))), now="2026-01-02T00:00:00Z")
    assert truth(late, "Stalled") == "True"
    still = unavailable(wanted_by(SPEC), OWNER, observed(ready("a")), before(late), trouble)
    assert (truth(still, "Stalled"), truth(still, "Reconciling")) == ("True", "False")
    first = unavailable(wanted_by(SPEC), OWNER, seen, before(None), trouble)
    assert "Accepted" not in {c.type for c in first.conditions}
    assert truth(told(seen, old=new), "Ready") == "True"


@pytest.mark.parametrize("said", ["n" * 40_000, "\x1b[31mred\n" * 5_000, "🚀" * 40_000])
def test_however_much_others_say_a_status_can_be_written(said: str) -> None:
    refusal = Obstacle(reason="NotApplied", message=f"volumeMounts: {said}: not found")
    warned = dataclasses.replace(
        observed(), stateful_set=stateful_set(0, 0), warnings={"uid of the StatefulSet": said}
    )
    for seen in (observed(crashed("a", 2, said)), observed(unscheduled("a", said)), warned):
        refused = rejected(wanted_by(SPEC), OWNER, seen, before(None), refusal)
        for condition in (*refused.conditions, *told(seen).conditions):
            assert len(condition.message) < 2_000
            assert condition.message.isprintable()
    message = rejected(wanted_by(SPEC), OWNER, warned, before(None), refusal).conditions[0].message
    assert (message[:14], message[-11:]) == ("volumeMounts: ", ": not found")


@pytest.mark.parametrize(
    ("written", "is_late"),
    [
        pytest.param("2026-01-01T00:49:00.123Z", True, id="parts of a second"),
        pytest.param("2026-01-01T01:49:00+01:00", True, id="another zone"),
        pytest.param("2026-01-01t00:49:00z", False, id="small letters"),
        pytest.param("0001-01-01T00:00:00Z", True, id="long ago"),
        pytest.param("0001-01-01T00:00:00+01:00", False, id="longer ago than can be"),
        pytest.param("2999-01-01T00:00:00Z", False, id="not yet"),
        pytest.param("soon", False, id="no time"),
    ],
)
def test_a_time_that_somebody_else_wrote_freezes_nothing(written: str, is_late: bool) -> None:
    seen = observed(ready("a"))
    old = told(seen, now=LATER).model_copy(update={"last_progress_time": written})
    new = told(seen, old=old, now=LATER)
    assert truth(new, "Stalled") == str(is_late)
    assert new.last_progress_time is not None
    assert len(new.last_progress_time) == len(LATER)


def test_what_is_not_understood_of_an_old_status_does_not_take_the_rest_with_it() -> None:
    old = told(observed(ready("a")), now="2025-01-01T00:00:00Z")
    written = old.model_dump(by_alias=True, exclude_none=True, mode="json")
    foreign = {"type": "Approved", "status": "True", "reason": "X", "message": ""}
    written["conditions"].append(foreign | {"lastTransitionTime": NOW})
    assert read_status(written | {"measured": {"later": 1}, "plan": 3, "other": "x"}) == old
    assert read_status(None) == Status()


def event(kind: str, reason: str, time: str, message: str = "said") -> dict[str, Any]:
    return {"type": kind, "reason": reason, "message": message, "lastTimestamp": time}


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


def test_what_is_being_deleted_is_named_with_what_it_waits_for() -> None:
    seen = observed(ready("a"), ready("b"))
    assert seen.stateful_set is not None
    metadata = {
        **seen.stateful_set["metadata"],
        "name": "llama-worker",
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["example.com/hold"],
    }
    going = seen.stateful_set | {"kind": "StatefulSet", "metadata": metadata}
    found = conditions(dataclasses.replace(seen, stateful_set=going))
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "Deleting")
    for word in ("StatefulSet llama-worker", "example.com/hold"):
        assert word in found["Reconciling"].message


def test_scaled_to_zero_is_healthy_and_says_so() -> None:
    spec = SPEC.model_copy(update={"replicas": 0})
    none = {"metadata": {"generation": 1}, "status": {"observedGeneration": 1}}
    seen = dataclasses.replace(observed(routers=()), stateful_set=none, router=none)
    found = conditions(seen, spec)
    assert (found["Ready"].status, found["Ready"].reason) == ("True", "ScaledToZero")
    for kind in ("Available", "RouterReady"):
        assert (found[kind].status, found[kind].reason) == ("False", "ScaledToZero")
    assert found["Degraded"].status == "False"
    assert told(seen, spec).workers == "0/0"


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    old = told(observed(ready("a"), ready("b")), now="2025-01-01T00:00:00Z")
    found = conditions(observed(ready("a")), old=old)
    assert found["Available"].last_transition_time == "2025-01-01T00:00:00Z"
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
    assert (found["Reconciling"].status, found["Reconciling"].reason) == ("True", "Starting")
    assert found["Reconciling"].message == "1 of 2 worker pods serve."


PAUSED = SPEC.model_copy(update={"paused": True})


@pytest.mark.parametrize(
    "changed",
    [{"stateful_set": stateful_set(updated=1)}, {"router": deployment(updated=0)}],
    ids=["workers", "routers"],
)
def test_what_a_pause_keeps_back_is_neither_ready_nor_under_way_nor_stalled(
    changed: dict[str, Any],
) -> None:
    seen = dataclasses.replace(observed(ready("a"), ready("b")), **changed)
    first = told(seen, PAUSED)
    late = told(seen, PAUSED, old=first, now="2026-01-02T00:00:00Z")
    for kind in ("Ready", "Reconciling", "Stalled"):
        assert truth(late, kind) == "False"
    found = {c.type.value: c for c in late.conditions}
    assert found["Ready"].reason == found["Reconciling"].reason == "Paused"
    assert "spec.paused" in found["Ready"].message
    assert not is_settled(wanted_by(PAUSED), seen), "no plan is made from what is not there yet"
    assert is_at_rest(wanted_by(PAUSED), seen), "nothing is looked for meanwhile"


def test_counts_from_before_the_last_change_do_not_say_that_routers_match() -> None:
    made = deployment()
    changed = made | {"metadata": {"generation": 2}}
    for router, are_updated in ((made, True), (changed, False), (None, False)):
        seen = dataclasses.replace(observed(ready("a"), ready("b")), router=router)
        assert seen.are_routers_updated(1) == are_updated
        assert (conditions(seen, PAUSED)["Reconciling"].reason == "Paused") != are_updated


def test_a_pause_with_nothing_to_do_is_no_news_and_hides_no_trouble() -> None:
    seen = observed(ready("a"), ready("b"))
    assert conditions(seen, PAUSED) == conditions(seen)
    sick = observed(ready("a"), crashed("b", 1, "boom"))
    behind = dataclasses.replace(sick, stateful_set=stateful_set(updated=1))
    found = conditions(behind, PAUSED)
    assert (found["Ready"].reason, found["Reconciling"].reason) == ("Crashing", "Starting")
