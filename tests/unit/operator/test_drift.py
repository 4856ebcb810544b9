"""When an object is as it was asked for, and what it takes to notice that it is not."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesaw_operator.loop.drift import DIGEST, is_as_asked_for, with_digest

LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
BODIES = st.dictionaries(
    st.text(max_size=3),
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=12,
    ),
    max_size=4,
)
WANTED: dict[str, Any] = {
    "kind": "Service",
    "metadata": {"name": "llama", "labels": {"a": "b"}},
    "spec": {"ports": [{"port": 80}], "selector": {"x": "y"}},
}


@given(BODIES, BODIES)
def test_what_the_apiserver_adds_beside_it_is_no_drift(
    wanted: dict[str, Any], added: dict[str, Any]
) -> None:
    assert is_as_asked_for(added | wanted, wanted)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["spec"]["ports"].append({"port": 81}),
        lambda body: body["spec"]["ports"][0].update(port=81),
        lambda body: body["spec"].pop("selector"),
        lambda body: body["metadata"]["labels"].clear(),
        lambda body: body["metadata"]["annotations"].update({DIGEST: "other"}),
        lambda body: body["metadata"].pop("annotations"),
    ],
)
def test_whatever_else_differs_is_drift(change: Any) -> None:
    wanted = with_digest(WANTED)
    there = copy.deepcopy(wanted)
    assert is_as_asked_for(there, wanted)
    change(there)
    assert not is_as_asked_for(there, wanted)


def test_a_field_that_is_not_asked_for_any_more_changes_the_digest() -> None:
    less = copy.deepcopy(WANTED)
    del less["spec"]["selector"]
    assert not is_as_asked_for(with_digest(WANTED), with_digest(less))
