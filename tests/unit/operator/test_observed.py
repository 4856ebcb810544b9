"""What is counted: the pods of this very resource, whoever else carries their labels."""

from typing import Any

import pytest

from seesaw_operator.cluster.store import Key, Store
from seesaw_operator.status.observed import component_of

KEY = Key("team", "llama")


def owner(kind: str, uid: str, name: str = "", *, is_controller: bool = True) -> dict[str, Any]:
    return {"kind": kind, "name": name, "uid": uid, "controller": is_controller}


def put(store: Store, kind: str, name: str, *owners: dict[str, Any], **labels: str) -> None:
    metadata = {"name": name, "namespace": "team", "uid": f"uid of {name}"}
    named = {key.replace("__", "/"): value for key, value in labels.items()}
    labels = {"seesaw.dev/deployment": "llama"} | named
    owned = {"ownerReferences": list(owners)} if owners else {}
    store.put_child({"kind": kind, "metadata": metadata | owned | {"labels": labels}})


def pods(store: Store, component: str) -> tuple[dict[str, Any], ...]:
    kind = {"worker": "StatefulSet", "router": "Deployment"}[component]
    return component_of(store, KEY, component, kind).pods


OURS = owner("StatefulSet", "uid of llama-worker", "llama-worker")


@pytest.mark.parametrize(
    ("owners", "is_counted"),
    [
        pytest.param([OURS], True, id="made by our StatefulSet, or adopted"),
        pytest.param([], False, id="a stranger, or orphaned and not adopted yet"),
        pytest.param([owner("StatefulSet", "another", "llama-worker")], False, id="an earlier one"),
        pytest.param([OURS | {"controller": False}], False, id="owned and not controlled"),
        pytest.param([owner("Job", "a job", "x"), OURS], False, id="controlled by another"),
    ],
)
def test_a_worker_counts_if_our_stateful_set_controls_it(
    owners: list[dict[str, Any]], is_counted: bool
) -> None:
    store = Store()
    put(store, "Pod", "pod", *owners, **{"app.kubernetes.io__component": "worker"})
    assert pods(store, "worker") == (), "nothing is ours before its StatefulSet is there"
    put(store, "StatefulSet", "llama-worker")
    assert len(pods(store, "worker")) == is_counted
    assert pods(store, "router") == ()


@pytest.mark.parametrize(
    ("owners", "is_counted"),
    [
        pytest.param([owner("ReplicaSet", "1", "llama-router-5d4f")], True, id="ours"),
        pytest.param([owner("ReplicaSet", "1", "llama-router-other")], False, id="another hash"),
        pytest.param([owner("ReplicaSet", "1", "x-5d4f")], False, id="another Deployment's"),
        pytest.param([owner("StatefulSet", "1", "llama-router-5d4f")], False, id="another kind"),
        pytest.param([], False, id="a stranger"),
    ],
)
def test_a_router_counts_if_a_replica_set_of_our_deployment_controls_it(
    owners: list[dict[str, Any]], is_counted: bool
) -> None:
    store = Store()
    labels = {"app.kubernetes.io__component": "router", "pod-template-hash": "5d4f"}
    put(store, "Pod", "pod", *owners, **labels)
    assert len(pods(store, "router")) == is_counted
    assert pods(store, "worker") == ()
