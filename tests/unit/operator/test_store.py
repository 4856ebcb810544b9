"""What belongs to a resource is found by its label, whatever happens to it."""

from typing import Any

from seesaw_operator.cluster.store import Key, Store, ref_of
from seesaw_operator.names import DEPLOYMENT_LABEL

A, B = Key("team", "a"), Key("team", "b")


def pod(name: str, owner: str, version: str = "1") -> dict[str, Any]:
    metadata = {"name": name, "namespace": "team", "resourceVersion": version}
    return {"kind": "Pod", "metadata": metadata | {"labels": {DEPLOYMENT_LABEL: owner}}}


def test_children_are_those_that_are_there_now_in_the_order_in_which_they_came() -> None:
    store = Store()
    for body in (pod("x", "a"), pod("y", "a"), pod("z", "b"), pod("x", "a", "2")):
        store.put_child(body)
    assert list(store.children(A, "Pod")) == [pod("x", "a", "2"), pod("y", "a")]
    assert list(store.children(B, "Pod")) == [pod("z", "b")]
    assert not list(store.children(A, "Service"))
    store.put_child(pod("x", "b", "3"))
    assert list(store.children(A, "Pod")) == [pod("y", "a")]
    assert list(store.children(B, "Pod")) == [pod("z", "b"), pod("x", "b", "3")]
    for name in ("y", "y"):
        store.drop_child(ref_of(pod(name, "a")))
    assert not list(store.children(A, "Pod"))


def test_a_resource_that_was_made_anew_outlives_the_news_of_the_old_ones_end() -> None:
    store = Store()
    for uid in ("old", "new"):
        store.put_resource({"metadata": {"name": "a", "namespace": "team", "uid": uid}})
    store.drop_resource(A, "old")
    assert store.resources() == [A]
    store.drop_resource(A, "new")
    assert store.resources() == []
