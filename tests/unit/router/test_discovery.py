"""EndpointSlices as lists of workers."""

from typing import Any

from seesaw_router.backends import Target
from seesaw_router.discovery import targets


def endpoint(pod: str, address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "targetRef": {"name": pod}, "conditions": conditions}


def test_each_port_of_each_pod_is_a_worker() -> None:
    one = {
        "ports": [{"port": 8000}, {"port": 8001}],
        "endpoints": [endpoint("a-0", "10.0.0.1", ready=True), endpoint("a-1", "fd00::1")],
    }
    assert [t.url for t in targets([one])] == [
        "http://10.0.0.1:8000",
        "http://10.0.0.1:8001",
        "http://[fd00::1]:8000",
        "http://[fd00::1]:8001",
    ]


def test_a_terminating_pod_takes_nothing_new_and_gives_way_to_its_successor() -> None:
    old = endpoint("a-0", "10.0.0.1", terminating=True)
    alone = {"ports": [{"port": 8000}], "endpoints": [old]}
    assert targets([alone]) == [Target(name="a-0:8000", url="http://10.0.0.1:8000", is_going=True)]
    both = {"ports": [{"port": 8000}], "endpoints": [endpoint("a-0", "10.0.0.2"), old]}
    assert targets([both]) == [Target(name="a-0:8000", url="http://10.0.0.2:8000")]


def test_slices_without_ports_or_endpoints_have_no_workers() -> None:
    assert targets([{"ports": None, "endpoints": None}, {}]) == []
