"""What routers report is read into types, whatever the version of the router."""

import json
from dataclasses import replace
from typing import Any

import pytest

from seesaw_core.errors import MessageError
from seesaw_core.reading import read_router_state
from seesaw_core.resharding.policy import Phase
from seesaw_core.router_messages import VERSION, RoutedWorker, RouterState, WorkerKind
from seesaw_core.routing.ejection import Standing
from seesaw_core.writing import as_json

WORKER = RoutedWorker(
    name="a:8000",
    url="http://10.0.0.1:8000",
    kind=WorkerKind.SEESAW,
    serving=True,
    reason="",
    going=False,
    standing=Standing.EJECTED,
    ejected="3 requests in a row failed",
    running=2,
    mode="resharding",
    phase=Phase.DECODE,
)
STATE = RouterState(version=VERSION, queued=3, last_step="a window is open", workers=(WORKER,))
VERSION_0: dict[str, Any] = {
    "queued": 3,
    "last_step": "a window is open",
    "workers": [
        {
            "name": "a:8000", "url": "http://10.0.0.1:8000", "kind": "seesaw", "serving": True,
            "reason": "", "going": False, "standing": "ejected",
            "ejected": "3 requests in a row failed", "running": 2, "phase": "decode",
        }
    ],
}  # fmt: skip
"""What a router of version 0 reported, word for word."""


def read(data: dict[str, Any]) -> RouterState:
    return read_router_state(json.dumps(data).encode())


def test_a_state_comes_back_as_it_was_sent() -> None:
    assert read(as_json(STATE)) == STATE
    static = replace(WORKER, kind=WorkerKind.STATIC, ejected=None, mode="static", phase=None)
    assert read(as_json(replace(STATE, workers=(static,)))).workers == (static,)


def test_a_router_of_version_0_is_read_and_finds_its_fields_in_what_is_sent_today() -> None:
    worker = replace(WORKER, mode="")
    assert read(VERSION_0) == replace(STATE, version=0, workers=(worker,))
    today = json.loads(json.dumps(as_json(STATE)))
    assert today | VERSION_0 | {"workers": today["workers"]} == today
    assert today["workers"][0] | VERSION_0["workers"][0] == today["workers"][0]


def test_fields_of_a_later_version_are_ignored() -> None:
    (worker,) = VERSION_0["workers"]
    later = VERSION_0 | {"version": 7, "new": 1, "workers": [worker | {"new": {}}]}
    assert read(later) == replace(STATE, version=7, workers=(replace(WORKER, mode=""),))


@pytest.mark.parametrize("name", sorted(VERSION_0))
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(MessageError, match=f"^{name} is missing"):
        read({key: value for key, value in VERSION_0.items() if key != name})


@pytest.mark.parametrize("name", sorted(VERSION_0["workers"][0]))
def test_a_missing_field_of_a_worker_is_named(name: str) -> None:
    (worker,) = VERSION_0["workers"]
    rest = {key: value for key, value in worker.items() if key != name}
    with pytest.raises(MessageError, match=rf"^workers\[0\]\.{name} is missing"):
        read(VERSION_0 | {"workers": [rest]})


@pytest.mark.parametrize(
    ("field", "value"), [("serving", 1), ("kind", "plain"), ("standing", None), ("running", -1)]
)
def test_a_wrong_value_is_named(field: str, value: object) -> None:
    (worker,) = VERSION_0["workers"]
    with pytest.raises(MessageError, match=rf"^workers\[0\]\.{field} must be "):
        read(VERSION_0 | {"workers": [worker | {field: value}]})
