"""A SeesawDeployment on an apiserver: made, looked at, and waited for."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.operators import Operator
from support.control_plane.processes import until
from support.control_plane.proxy import Proxy

CONVERGE_S = 90.0
SPEC: Json = {"model": {"uri": "org/model"}, "accelerator": {"count": 2}}
OBJECTS = {
    "serviceaccounts/llama-worker",
    "services/llama-worker",
    "poddisruptionbudgets/llama-worker",
    "statefulsets/llama-worker",
    "serviceaccounts/llama-router",
    "roles/llama-router",
    "rolebindings/llama-router",
    "services/llama",
    "poddisruptionbudgets/llama-router",
    "deployments/llama-router",
}
GROUPS = {
    "serviceaccounts": "/api/v1",
    "services": "/api/v1",
    "statefulsets": "/apis/apps/v1",
    "deployments": "/apis/apps/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "roles": "/apis/rbac.authorization.k8s.io/v1",
    "rolebindings": "/apis/rbac.authorization.k8s.io/v1",
}


def resource(namespace: str, name: str = "llama") -> str:
    return f"/apis/seesaw.dev/v1alpha1/namespaces/{namespace}/seesawdeployments/{name}"


def path(namespace: str, kind: str, name: str = "") -> str:
    return f"{GROUPS[kind]}/namespaces/{namespace}/{kind}/{name}".rstrip("/")


async def make_namespace(server: ApiServer, name: str) -> None:
    """Make a namespace that no other test has. Raises: AssertionError."""
    made = await server.create("/api/v1/namespaces", {"metadata": {"name": name}})
    assert made["kind"] == "Namespace", made


async def deploy(server: ApiServer, namespace: str, spec: Json, name: str = "llama") -> Json:
    body = {
        "apiVersion": "seesaw.dev/v1alpha1",
        "kind": "SeesawDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }
    return await server.create(resource(namespace, "").rstrip("/"), body)


async def objects(server: ApiServer, namespace: str) -> dict[str, Json]:
    """Everything that belongs to SeesawDeployments of a namespace."""
    found = {}
    for kind in GROUPS:
        for item in (await server.get(path(namespace, kind)))["items"]:
            if "seesaw.dev/deployment" in item["metadata"].get("labels", {}):
                found[f"{kind}/{item['metadata']['name']}"] = item
    return found


async def put_pod(server: ApiServer, namespace: str, template: Json, *, owned: bool = True) -> Json:
    """Make the first worker pod, or a stranger that looks like one: the StatefulSet's controller
    does not run here."""
    metadata: Json = {"name": "llama-worker-0", "labels": template["metadata"]["labels"]}
    if owned:
        workers = (await server.get(path(namespace, "statefulsets", "llama-worker")))["metadata"]
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "llama-worker"}
        metadata["ownerReferences"] = [owner | {"uid": workers["uid"], "controller": True}]
    pod = {"metadata": metadata, "spec": template["spec"]}
    made = await server.create(f"/api/v1/namespaces/{namespace}/pods", pod)
    assert made["kind"] == "Pod", made
    return made


async def put_event(server: ApiServer, about: Json, reason: str, said: str) -> None:
    """Record a warning about an object, as its controller would."""
    metadata = about["metadata"]
    event = {
        "metadata": {"generateName": "test-"},
        "involvedObject": {
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "type": "Warning",
        "reason": reason,
        "message": said,
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    made = await server.create(f"/api/v1/namespaces/{metadata['namespace']}/events", event)
    assert made["kind"] == "Event", made


async def set_pod_status(server: ApiServer, namespace: str, **status: Any) -> None:
    """Say how the first worker pod is, as a kubelet would."""
    pod = f"/api/v1/namespaces/{namespace}/pods/llama-worker-0/status"
    await server.patch(pod, {"status": status})


async def set_container_state(server: ApiServer, namespace: str, state: Json) -> None:
    """Say what its container does, as a kubelet would."""
    status = {"name": "engine-0", "state": state, "image": "x", "imageID": ""}
    statuses = [status | {"ready": False, "restartCount": 0}]
    await set_pod_status(server, namespace, containerStatuses=statuses)


async def events(server: ApiServer, namespace: str, reason: str) -> list[Json]:
    """What is recorded for that reason."""
    found = (await server.get(f"/api/v1/namespaces/{namespace}/events"))["items"]
    return [event for event in found if event["reason"] == reason]


def versions(found: dict[str, Json]) -> dict[str, str]:
    return {name: body["metadata"]["resourceVersion"] for name, body in found.items()}


async def conditions(server: ApiServer, namespace: str) -> dict[str, Json]:
    found = await server.get(resource(namespace))
    return {c["type"]: c for c in found.get("status", {}).get("conditions", ())}


async def told(
    server: ApiServer, namespace: str, operator: Operator, kind: str, *words: str, **fields: str
) -> None:
    """Wait until a condition has these fields, and these words in its message."""

    async def is_told() -> bool:
        condition = (await conditions(server, namespace)).get(kind, {"message": ""})
        return fields.items() <= condition.items() and all(w in condition["message"] for w in words)

    await until(is_told, CONVERGE_S, lambda: operator.log.read_text()[-3000:])


def as_asked_for(body: Json, namespace: str) -> Json:
    """An object without what the apiserver adds, and in a namespace of any name."""
    text = {k: v for k, v in body.items() if k not in ("metadata", "status")}
    text["spec"] = {
        k: v for k, v in text.get("spec", {}).items() if k not in ("clusterIP", "clusterIPs")
    }
    owners = [(o["kind"], o["name"], o["controller"]) for o in body["metadata"]["ownerReferences"]]
    made = {"labels": body["metadata"]["labels"], "owners": owners, "rest": text}
    return {"made": repr(made).replace(namespace, "NAMESPACE")}


@contextlib.asynccontextmanager
async def operated(
    server: ApiServer, namespace: str, folder: Path, *flags: str, lease: str = ""
) -> AsyncIterator[tuple[Proxy, Operator]]:
    if not lease:  # one of its own, which an operator that was killed holds no more
        lease = "operator"
        leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        await server.ask("DELETE", f"{leases}/{lease}")
    async with Proxy(server).running() as proxy:
        operator = Operator(proxy, namespace, folder, lease=lease, flags=flags)
        try:
            yield proxy, operator
        finally:
            operator.end()


async def converged(server: ApiServer, namespace: str, operator: Operator) -> dict[str, Json]:
    """Wait until the status is about the latest spec, and return the objects."""

    async def is_told() -> bool:
        found = await server.get(resource(namespace))
        status = found.get("status", {})
        return bool(
            status.get("observedGeneration") == found["metadata"]["generation"]
            and len(status.get("conditions", ())) == 8
        )

    await until(is_told, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
    return await objects(server, namespace)


async def compared(operator: Operator, times: int) -> None:
    """Wait until the operator has compared everything with what is wanted so often again."""
    before: float | None = None

    async def is_done() -> bool:
        nonlocal before
        now = await operator.num_reconciles()
        before = now if before is None else before
        return before is not None and now is not None and now >= before + times

    await until(is_done, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
