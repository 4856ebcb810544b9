"""What a status says: conditions with reasons, messages and next steps, from what is seen."""

import dataclasses
from typing import Any

import pytest

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import ConditionType, Status, read_status
from seesaw_operator.components.all import COMPONENTS
from seesaw_operator.status.component import desired_by
from seesaw_operator.status.condition_state import Cause
from seesaw_operator.status.conditions import is_at_rest, is_settled
from seesaw_operator.status.resource_status import rejected, unavailable
from support.resource_status.samples import (
    NOW,
    SPEC,
    conditions,
    context,
    crashed,
    deployment,
    desired,
    nothing,
    observed,
    pod,
    ready,
    reported,
    stateful_set,
    truth,
    unscheduled,
    with_body,
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
    rolling = with_body(
        observed(ready("a"), pod("b", containerStatuses=[{"name": "engine-0", "state": broken}])),
        "worker",
        stateful_set(updated=1),
    )
    found = conditions(rolling)
    assert found["Available"].status == "True"
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "ImagePullFailed")
    assert found["Reconciling"].status == "True"


def test_it_is_stalled_once_nothing_has_moved_for_the_progress_deadline() -> None:
    seen = observed(ready("a"), crashed("b", 1, "boom"))
    first = reported(seen, now="2026-01-01T00:00:00Z")
    assert (truth(first, "Stalled"), truth(first, "Reconciling")) == ("False", "True")
    assert truth(reported(seen, old=first, now="2026-01-01T00:10:00Z"), "Stalled") == "False"
    late = reported(seen, old=first, now="2026-01-01T00:10:01Z")
    assert (truth(late, "Stalled"), truth(late, "Reconciling")) == ("True", "False")
    assert "boom" in next(c.message for c in late.conditions if c.type == "Stalled")
    more = reported(observed(ready("a"), ready("b")), old=late, now="2026-01-01T00:20:00Z")
    assert truth(more, "Stalled") == "False"


@pytest.mark.parametrize(("reshard", "prefill"), [("Never", "T2"), ("never", "T2"), ("Auto", "P2")])
def test_a_worker_that_never_reshards_has_one_layout(reshard: str, prefill: str) -> None:
    pair = {"prefill": {"pipeline": 2}, "decode": {"tensor": 2}}
    spec = Spec.model_validate({"model": {"uri": "m"}, "parallelism": pair, "reshard": reshard})
    layouts = reported(observed(ready("a")), spec).layouts
    assert layouts is not None
    assert (layouts.prefill, layouts.decode) == (prefill, "T2")


def test_it_progresses_while_routers_are_replaced() -> None:
    seen = observed(ready("a"), ready("b"))
    rolling = with_body(seen, "router", deployment(updated=0))
    assert conditions(seen)["Reconciling"].status == "False"
    assert conditions(rolling)["Reconciling"].reason == "RollingOut"


TYPES = {*ConditionType, "WorkersReady", "RouterReady"}
REFUSAL = Cause(reason="NotApplied", message="quota")
LATER = "2026-01-01T01:00:00Z"


def test_while_a_spec_is_refused_what_is_seen_is_told_as_ever() -> None:
    old = reported(observed(ready("a"), ready("b")), now="2025-01-01T00:00:00Z")
    seen = observed(ready("a"), crashed("b", 1, "boom"), routers=())
    in_force = desired(9, 9).in_force(seen)
    assert in_force == desired(2, 1), "what was applied, and not what is refused"
    new = rejected(context(old), in_force, seen, REFUSAL)
    found = {c.type: c for c in new.conditions}
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
    again = rejected(context(new), in_force, served, REFUSAL)
    assert truth(again, "Available") == truth(again, "WorkersReady") == "True"
    assert truth(again, "Degraded") == "False"


def test_a_spec_that_is_refused_from_the_start_has_no_pods_and_says_so() -> None:
    wanted = desired(3, 1).in_force(nothing())
    new = rejected(context(None), wanted, nothing(), REFUSAL)
    found = {c.type: c for c in new.conditions}
    assert found["WorkersReady"].message == "0 of 3 workers serve; there are no pods."
    assert found["RouterReady"].message == "No router serves yet; there are no pods."
    assert found["Available"].status == "False"


def test_an_apiserver_in_trouble_is_told_as_that_and_nothing_else_is_forgotten() -> None:
    seen = observed(ready("a"), ready("b"))
    old = reported(seen, now="2025-01-01T00:00:00Z")
    trouble = Cause(reason="ApiUnavailable", message="failed calling webhook")
    new = unavailable(context(old), desired(2, 1), seen, trouble)
    found = {c.type: c for c in new.conditions}
    assert len(found) == len(new.conditions) == 8
    for name, status in (("Ready", "False"), ("Reconciling", "True")):
        assert (found[name].status, found[name].reason) == (status, "ApiUnavailable")
        assert "failed calling webhook" in found[name].message
    assert found["Accepted"] == old.conditions[0]
    assert (found["Available"].status, found["Stalled"].status) == ("True", "False")
    late = reported(
        observed(ready("a")), old=reported(observed(ready("a"))), now="2026-01-02T00:00:00Z"
    )
    assert truth(late, "Stalled") == "True"
    still = unavailable(context(late), desired(2, 1), observed(ready("a")), trouble)
    assert (truth(still, "Stalled"), truth(still, "Reconciling")) == ("True", "False")
    first = unavailable(context(None), desired(2, 1), seen, trouble)
    assert truth(first, "Accepted") == "Unknown"
    assert truth(reported(seen, old=new), "Ready") == "True"


@pytest.mark.parametrize("said", ["n" * 40_000, "\x1b[31mred\n" * 5_000, "🚀" * 40_000])
def test_however_much_others_say_a_status_can_be_written(said: str) -> None:
    refusal = Cause(reason="NotApplied", message=f"volumeMounts: {said}: not found")
    warned = dataclasses.replace(
        with_body(observed(), "worker", stateful_set(0, 0)),
        warnings={"uid of the StatefulSet": said},
    )
    for seen in (observed(crashed("a", 2, said)), observed(unscheduled("a", said)), warned):
        refused = rejected(context(None), desired(2, 1), seen, refusal)
        for condition in (*refused.conditions, *reported(seen).conditions):
            assert len(condition.message) < 2_000
            assert condition.message.isprintable()
    message = rejected(context(None), desired(2, 1), warned, refusal).conditions[0].message
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
    old = reported(seen, now=LATER).model_copy(update={"last_progress_time": written})
    new = reported(seen, old=old, now=LATER)
    assert truth(new, "Stalled") == str(is_late)
    assert new.last_progress_time is not None
    assert len(new.last_progress_time) == len(LATER)


def test_what_is_not_understood_of_an_old_status_does_not_take_the_rest_with_it() -> None:
    old = reported(observed(ready("a")), now="2025-01-01T00:00:00Z")
    written = old.model_dump(by_alias=True, exclude_none=True, mode="json")
    foreign = {"type": "Approved", "status": "True", "reason": "X", "message": ""}
    written["conditions"].append(foreign | {"lastTransitionTime": NOW})
    later = written | {"measured": {"later": 1}, "plan": 3, "other": "x"}
    assert read_status(later, TYPES) == old
    assert read_status(None, TYPES) == Status()


def test_what_is_being_deleted_is_named_with_what_it_waits_for() -> None:
    seen = observed(ready("a"), ready("b"))
    metadata = {
        **stateful_set()["metadata"],
        "name": "llama-worker",
        "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": ["example.com/hold"],
    }
    going = stateful_set() | {"kind": "StatefulSet", "metadata": metadata}
    found = conditions(with_body(seen, "worker", going))
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "Deleting")
    for word in ("StatefulSet llama-worker", "example.com/hold"):
        assert word in found["Reconciling"].message


def test_a_service_that_is_being_deleted_is_named_too() -> None:
    metadata = {"name": "llama", "deletionTimestamp": NOW, "finalizers": ["cloud/lb"]}
    seen = dataclasses.replace(
        observed(ready("a"), ready("b")), others=({"kind": "Service", "metadata": metadata},)
    )
    found = conditions(seen)
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "Deleting")
    assert "Service llama" in found["Reconciling"].message


def test_pods_that_drain_do_not_stand_still_until_their_grace_is_over() -> None:
    none = SPEC.model_copy(update={"replicas": 0})
    draining = ready("a")
    draining["metadata"]["deletionTimestamp"] = "2026-01-01T01:00:00Z"
    seen = observed(draining)
    first = reported(seen, none)
    within = reported(seen, none, first, now="2026-01-01T01:09:00Z")
    assert truth(within, "Stalled") == "False"
    assert "1 drains" in next(c.message for c in within.conditions if c.type == "Reconciling")
    assert truth(reported(seen, none, first, now="2026-01-01T01:11:00Z"), "Stalled") == "True"


def test_scaled_to_zero_is_healthy_and_says_so() -> None:
    spec = SPEC.model_copy(update={"replicas": 0})
    none = {"metadata": {"generation": 1}, "status": {"observedGeneration": 1}}
    seen = with_body(with_body(observed(routers=()), "worker", none), "router", none)
    found = conditions(seen, spec)
    assert (found["Ready"].status, found["Ready"].reason) == ("True", "ScaledToZero")
    for kind in ("Available", "RouterReady"):
        assert (found[kind].status, found[kind].reason) == ("False", "ScaledToZero")
    assert found["Degraded"].status == "False"
    assert reported(seen, spec).workers == "0/0"


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    old = reported(observed(ready("a"), ready("b")), now="2025-01-01T00:00:00Z")
    found = conditions(observed(ready("a")), old=old)
    assert found["Available"].last_transition_time == "2025-01-01T00:00:00Z"
    assert found["WorkersReady"].last_transition_time == "2026-01-01T00:00:00Z"


def test_it_progresses_until_every_worker_serves() -> None:
    found = conditions(observed(ready("a"), pod("b")))
    assert (found["Reconciling"].status, found["Reconciling"].reason) == ("True", "Starting")
    assert found["Reconciling"].message == "1 of 2 worker pods serve."


PAUSED = SPEC.model_copy(update={"paused": True})


@pytest.mark.parametrize(
    "changed",
    [("worker", stateful_set(updated=1)), ("router", deployment(updated=0))],
    ids=["workers", "routers"],
)
def test_what_a_pause_keeps_back_is_neither_ready_nor_under_way_nor_stalled(
    changed: tuple[str, dict[str, Any]],
) -> None:
    seen = with_body(observed(ready("a"), ready("b")), *changed)
    first = reported(seen, PAUSED)
    late = reported(seen, PAUSED, old=first, now="2026-01-02T00:00:00Z")
    for kind in ("Ready", "Reconciling", "Stalled"):
        assert truth(late, kind) == "False"
    found = {c.type: c for c in late.conditions}
    assert found["Ready"].reason == found["Reconciling"].reason == "Paused"
    assert "spec.paused" in found["Ready"].message
    assert not is_settled(COMPONENTS, desired_by(COMPONENTS, PAUSED), seen), (
        "no plan is made from what is not there yet"
    )
    assert is_at_rest(COMPONENTS, desired_by(COMPONENTS, PAUSED), seen), (
        "nothing is looked for meanwhile"
    )


def test_counts_from_before_the_last_change_do_not_say_that_routers_match() -> None:
    made = deployment()
    changed = made | {"metadata": {"generation": 2}}
    for router, are_updated in ((made, True), (changed, False), (None, False)):
        seen = with_body(observed(ready("a"), ready("b")), "router", router)
        assert seen.components["router"].is_updated(1) == are_updated
        assert (conditions(seen, PAUSED)["Reconciling"].reason == "Paused") != are_updated


def test_a_pause_with_nothing_to_do_is_no_news_and_hides_no_trouble() -> None:
    seen = observed(ready("a"), ready("b"))
    assert conditions(seen, PAUSED) == conditions(seen)
    sick = observed(ready("a"), crashed("b", 1, "boom"))
    behind = with_body(sick, "worker", stateful_set(updated=1))
    found = conditions(behind, PAUSED)
    assert (found["Ready"].reason, found["Reconciling"].reason) == ("Crashing", "Starting")
