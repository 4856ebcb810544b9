"""Pods of stand-ins for workers, as an operator's store has them."""

from typing import Any

from aiohttp.test_utils import TestServer

from seesaw_operator.cluster.store import Store


def pod(name: str, server: TestServer, **status: Any) -> dict[str, Any]:
    labels = {"seesaw.dev/deployment": "llama", "app.kubernetes.io/component": "worker"}
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "team",
            "labels": labels,
            "ownerReferences": [{"controller": True, "kind": "StatefulSet", "uid": "1"}],
        },
        "spec": {"containers": [{"name": "engine-0", "ports": [{"containerPort": server.port}]}]},
        "status": {"podIP": "127.0.0.1", "conditions": ready} | status,
    }


def followed() -> Store:
    """A store that knows the workers' StatefulSet."""
    store = Store()
    labels = {"seesaw.dev/deployment": "llama"}
    metadata = {"name": "llama-worker", "namespace": "team", "uid": "1", "labels": labels}
    store.put_child({"kind": "StatefulSet", "metadata": metadata})
    return store
