"""EndpointSlices as lists of workers."""

from typing import Any

import pytest

from seesaw_router.dispatch.backend import Target
from seesaw_router.dispatch.discovery import targets


def endpoint(pod: str, address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "targetRef": {"name": pod}, "conditions": conditions}


def test_each_port_of_each_pod_is_a_worker() -> None:
    one = {
        "ports": [{"port": 8000}, {"port": 8001}],
        "endpoints": [endpoint("a-0", "10.0.0.1", ready=True), endpoint("a-1", "fd00::1")],
    }
    assert [t.url for t in targets([one])[0]] == [
        "http://10.0.0.1:8000",
        "http://10.0.0.1:8001",
        "http://[fd00::1]:8000",
        "http://[fd00::1]:8001",
    ]


def test_a_terminating_pod_takes_nothing_new_and_gives_way_to_its_successor() -> None:
    old = endpoint("a-0", "10.0.0.1", terminating=True)
    alone = {"ports": [{"port": 8000}], "endpoints": [old]}
    assert targets([alone])[0] == [
        Target(name="a-0:8000", url="http://10.0.0.1:8000", is_draining=True)
    ]
    both = {"ports": [{"port": 8000}], "endpoints": [endpoint("a-0", "10.0.0.2"), old]}
    assert targets([both])[0] == [Target(name="a-0:8000", url="http://10.0.0.2:8000")]


def test_slices_without_ports_or_endpoints_have_no_workers() -> None:
    assert targets([{"ports": None, "endpoints": None}, {}]) == ([], ())


ODD: dict[str, Any] = {
    "no addresses": {"addresses": None},
    "an empty list": {"addresses": []},
    "an address that is a number": {"addresses": [1]},
    "an address that would change the URL": {"addresses": ["10.0.0.1/x@y"]},
    "an endless address": {"addresses": ["a" * 100_000]},
    "a number": 3,
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_endpoint_is_left_out_and_named_while_the_others_serve(odd: Any) -> None:
    whole = {"ports": [{"port": 8000}], "endpoints": [endpoint("a-0", "10.0.0.1")]}
    strange = {"metadata": {"name": "s"}, "ports": [{"port": 8000}], "endpoints": [odd]}
    found, problems = targets([strange, whole])
    assert [t.name for t in found] == ["a-0:8000"]
    assert len(problems) == 1
    assert problems[0].startswith("'s': ")
    assert len(problems[0]) < 300


def test_odd_ports_and_conditions_harm_no_other_port_and_names_are_taken_once() -> None:
    ports: list[Any] = [{"port": p} for p in (8000, None, "8001", True, 0, 70000)]
    one = endpoint("a-0", "10.0.0.1") | {"conditions": "ready", "targetRef": ["a-0"]}
    slices = [{"ports": ports, "endpoints": [one, one]}] * 2
    found, problems = targets(slices)
    assert [t.url for t in found] == ["http://10.0.0.1:8000"]
    assert problems
