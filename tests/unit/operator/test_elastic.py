"""Elastic instances: what workers report of them, what the status shows, and who is told."""

import dataclasses
import json
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from seesaw_core.messages import ElasticState
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Measured, Status, read_status
from seesaw_operator.cluster.store import Key, Store
from seesaw_operator.status.elastic import figures_of, instances_of, warnings
from seesaw_operator.status.measure import Meter
from support.fake_worker.engine import Engine, application
from support.fake_worker.pods import followed, pod
from support.resource_status.fake_cluster import KEY, RESOURCE, Cluster, reconciler_of
from support.resource_status.samples import (
    SPEC,
    conditions,
    crashed,
    observed,
    ready,
    reported,
    stateful_set,
    with_body,
)

STATE = ElasticState(
    capacity_tokens=(100, 100),
    free_tokens=(75, 100),
    lost_instances=(),
    groups=(),
    num_running=3,
    prefills_by_degree={"1": 4, "2": 1},
    decodes_by_degree={"1": 30},
    failed_iterations=0,
    preemptions=0,
    restarts=0,
    migrated_tokens=10,
    migrated_bytes=2560,
)
LOST = dataclasses.replace(
    STATE, capacity_tokens=(100, 0), free_tokens=(40, 0), lost_instances=(1,)
)


def measured(**by_pod: ElasticState) -> Measured:
    instances = {name: instances_of(state) for name, state in by_pod.items()}
    return Measured(
        tokens_per_second=1,
        transitions=0,
        waiting_requests=0,
        running_requests=0,
        buffer_used_percent=0,
        prefill_workers=0,
        elastic=figures_of({name: each for name, each in instances.items() if each is not None}),
    )


def test_the_status_shows_instances_degrees_kv_and_bytes_of_all_workers() -> None:
    other = dataclasses.replace(LOST, decodes_by_degree={"1": 5, "2": 7})
    found = measured(a=STATE, b=other).elastic
    assert found is not None
    assert json.loads(found.model_dump_json(by_alias=True)) == {
        "instances": "3/4",
        "lostInstances": 1,
        "iterations": [
            {"degree": 1, "prefills": 8, "decodes": 35},
            {"degree": 2, "prefills": 2, "decodes": 7},
        ],
        "migratedBytes": 5120,
        "workers": [
            {"pod": "b", "lost": [1], "kvUsedPercent": [60, 0]},
            {"pod": "a", "lost": [], "kvUsedPercent": [25, 0]},
        ],
    }


def test_of_many_workers_those_that_lost_something_are_shown() -> None:
    names = [f"w-{index:03}" for index in range(200)]
    found = measured(**dict.fromkeys(names, STATE), **{"x-0": LOST}).elastic
    assert found is not None
    assert found.instances == "401/402"
    assert [each.pod for each in found.workers] == ["x-0", *names[:15]]


ODD: dict[str, dict[str, Any]] = {
    "more instances than there can be": {
        "capacity_tokens": (1,) * 65,
        "free_tokens": (1,) * 65,
    },
    "room of other instances": {"free_tokens": (1, 2, 3)},
    "an instance lost that is none": {"lost_instances": (2,)},
    "a group larger than all": {"prefills_by_degree": {"3": 1}},
    "a group of nobody": {"decodes_by_degree": {"0": 1}},
    "a degree that is no number": {"decodes_by_degree": {"\u0661": 1}},
}


@pytest.mark.parametrize("name", ODD)
def test_figures_that_contradict_each_other_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="instances"):
        instances_of(dataclasses.replace(STATE, **ODD[name]))


def test_more_room_than_there_is_and_huge_numbers_stay_within_what_an_apiserver_takes() -> None:
    odd = dataclasses.replace(
        STATE, free_tokens=(900, 0), migrated_bytes=2**63 - 1, decodes_by_degree={"1": 2**63 - 1}
    )
    found = measured(a=odd, b=odd).elastic
    assert found is not None
    assert found.workers[0].kv_used_percent == (0, 100)
    assert (found.migrated_bytes, found.iterations[0].decodes) == (2**63 - 1, 2**63 - 1)


def test_a_worker_that_lost_an_instance_is_degraded_but_ready() -> None:
    seen = dataclasses.replace(observed(ready("a"), ready("b")), measured=measured(a=LOST))
    found = conditions(seen)
    assert (found["Degraded"].status, found["Degraded"].reason) == ("True", "InstancesLost")
    assert found["Degraded"].message == (
        "Pod a: 1 of 2 instances is lost (number 1). The worker serves on with the others, and has "
        "all again once its pod is replaced. See why: kubectl logs a; to replace it: "
        "kubectl delete pod a"
    )
    assert {found[name].status for name in ("Ready", "Available", "WorkersReady")} == {"True"}
    whole = dataclasses.replace(seen, measured=measured(a=STATE))
    assert conditions(whole)["Degraded"].status == "False"


def test_a_lost_instance_is_not_what_a_rollout_waits_for() -> None:
    seen = dataclasses.replace(observed(ready("a"), ready("b")), measured=measured(a=LOST))
    rolling = with_body(seen, "worker", stateful_set(updated=1))
    found = conditions(rolling)
    assert (found["Ready"].status, found["Ready"].reason) == ("False", "RollingOut")
    assert found["Degraded"].reason == "InstancesLost"
    broken = observed(ready("a"), crashed("b", 1, "boom"))
    found = conditions(dataclasses.replace(broken, measured=measured(a=LOST)))
    assert found["Ready"].reason == found["Degraded"].reason == "Crashing", "the worst comes first"
    assert found["Degraded"].message.endswith("(1 more pod is in trouble.)")


def test_each_further_loss_is_told_once() -> None:
    three = dataclasses.replace(
        STATE, capacity_tokens=(9, 9, 9), free_tokens=(9, 9, 9), lost_instances=(0,)
    )
    worse = dataclasses.replace(three, lost_instances=(0, 2))
    first, second = (Status(measured=measured(a=each)) for each in (three, worse))
    assert [each.reason for each in warnings(Status(), first)] == ["InstancesLost"]
    assert warnings(first, first) == []
    (told,) = warnings(first, second)
    assert "2 of 3 instances are lost (number 0, 2)" in told.message
    assert warnings(second, Status()) == []


def test_what_was_written_is_read_again() -> None:
    seen = dataclasses.replace(observed(ready("a"), ready("b")), measured=measured(a=LOST))
    status = reported(seen)
    written = status.model_dump(by_alias=True, exclude_none=True, mode="json")
    assert read_status(written, {"Degraded"}).measured == status.measured


def test_the_layouts_of_elastic_instances_are_short() -> None:
    elastic = {"mode": "Elastic", "elastic": {"instances": 4, "tensor": 2}}
    spec = Spec.model_validate({"model": {"uri": "m"}, "parallelism": elastic})
    layouts = reported(observed(ready("a")), spec).layouts
    assert layouts is not None
    assert (layouts.prefill, layouts.decode) == ("4×T2", "4×T2")
    assert reported(observed(ready("a")), SPEC).layouts is None


async def test_a_busy_worker_that_misses_an_answer_keeps_its_lost_instances() -> None:
    store, engine = followed(), Engine("m", 0.0)
    engine.elastic = LOST
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    async with aiohttp.ClientSession() as http:
        server = TestServer(application(engine))
        await server.start_server()
        store.put_child(pod("w-0", server))
        meter = Meter(store, http, on_change=lambda _: None)
        assert not meter.has_measured(KEY)
        await meter.measure_all()
        first = meter.of(KEY)
        assert first is not None
        assert first.elastic is not None
        assert (first.elastic.instances, first.running_requests) == ("1/2", 3)
        await server.close()
        await meter.measure_all()
        second = meter.of(KEY)
        assert second is not None
        assert second.elastic == first.elastic
        store.put_child(pod("w-0", server, conditions=[]))  # it starts anew
        await meter.measure_all()
        assert meter.of(KEY) is None
        assert meter.has_measured(KEY)


class NothingYet:
    """Measurements of an operator that has just started."""

    def __init__(self) -> None:
        self.has_begun = False

    def of(self, key: Key) -> Measured | None:
        return measured(**{"llama-worker-0": LOST}) if self.has_begun else None

    def plan_of(self, key: Key) -> None:
        return None

    def has_measured(self, key: Key) -> bool:
        return self.has_begun


async def test_an_operator_that_starts_again_does_not_tell_a_loss_again() -> None:
    cluster, store, measurements = Cluster(), Store(), NothingYet()
    store.put_resource(RESOURCE)

    measurements.has_begun = True
    await reconciler_of(cluster, store, measurements).reconcile(KEY)
    assert cluster.events.count("InstancesLost") == 1, "by a condition or an Event, not by both"
    for has_begun in (False, True):
        measurements.has_begun = has_begun
        await reconciler_of(cluster, store, measurements).reconcile(KEY)
        assert cluster.status["Degraded"]["reason"] == "InstancesLost"
    assert cluster.events.count("InstancesLost") == 1
