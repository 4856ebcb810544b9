"""Operators on a real kube-apiserver when others are quicker, or news comes late."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from support.control_plane.apiserver import ApiServer
from support.control_plane.processes import until
from support.control_plane.proxy import Call, Proxy
from support.control_plane.resources import (
    CONVERGE_S,
    SPEC,
    converged,
    deploy,
    make_namespace,
    operated,
    path,
    resource,
    told,
)

NUM_PAIRS = 6


async def test_resources_that_want_the_same_names_never_take_each_others_objects(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "names")
    names = [f"p{i}{end}" for i in range(NUM_PAIRS) for end in ("", "-worker")]
    again = "--resync-s=1"  # who was refused looks at the names again and again
    async with operated(apiserver, "names", tmp_path, again) as (_, operator):
        await asyncio.gather(*(deploy(apiserver, "names", SPEC, name=name) for name in names))
        accepted: dict[str, str] = {}

        async def are_told() -> bool:
            for name in names:
                status = (await apiserver.get(resource("names", name))).get("status", {})
                for condition in status.get("conditions", ()):
                    if condition["type"] == "Accepted":
                        accepted[name] = condition["status"]
            return len(accepted) == len(names)

        await until(are_told, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
        for i in range(NUM_PAIRS):
            shared = await apiserver.get(path("names", "services", f"p{i}-worker"))
            (owner,) = shared["metadata"]["ownerReferences"]
            is_headless = shared["spec"]["clusterIP"] == "None"
            assert is_headless == (owner["name"] == f"p{i}")
            others = {f"p{i}", f"p{i}-worker"} - {owner["name"]}
            assert [accepted[name] for name in (owner["name"], *others)] == ["True", "False"]
            for name in others:
                left = await apiserver.get(path("names", "statefulsets", f"{name}-worker"))
                assert left.get("code") == 404, "devices were taken for what cannot serve"
        await asyncio.sleep(3.0)
        events = await apiserver.get("/apis/events.k8s.io/v1/namespaces/names/events")
        told = {(e["regarding"]["name"], e["reason"]) for e in events["items"]}
        refused = {name for name in names if accepted[name] == "False"}
        assert {name for name, reason in told if reason == "NotApplied"} == refused


async def test_what_an_orphaning_deletion_leaves_is_not_taken_back_by_who_hears_of_it_late(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    async with deleted_unheard(apiserver, "late", tmp_path, "Orphan") as (proxy, child):
        await apiserver.patch(child, {"metadata": {"ownerReferences": None}})
        await asked_for(proxy, resource("late"))
        await asyncio.sleep(1.0)  # what it would do, it does at once
        assert "ownerReferences" not in (await apiserver.get(child))["metadata"]


async def test_what_was_deleted_unheard_is_not_made_again(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    async with deleted_unheard(apiserver, "unheard", tmp_path, "Background") as (proxy, child):
        await apiserver.ask("DELETE", child, {"propagationPolicy": "Background"})
        await asked_for(proxy, resource("unheard"))
        await asyncio.sleep(1.0)
        assert (await apiserver.get(child)).get("code") == 404


@contextlib.asynccontextmanager
async def deleted_unheard(
    server: ApiServer, namespace: str, folder: Path, propagation: str
) -> AsyncIterator[tuple[Proxy, str]]:
    """A resource is deleted, and its operator is not told. Yields the path of its StatefulSet."""
    await make_namespace(server, namespace)
    async with operated(server, namespace, folder) as (proxy, operator):
        await deploy(server, namespace, SPEC)
        await converged(server, namespace, operator)
        proxy.mute = is_of_resources
        await server.ask("DELETE", resource(namespace), {"propagationPolicy": propagation})
        yield proxy, path(namespace, "statefulsets", "llama-worker")


async def asked_for(proxy: Proxy, path: str) -> None:
    """Wait until an operator asks for that very object."""

    async def is_asked() -> bool:
        return ("GET", path) in {(method, url.split("?")[0]) for method, url in proxy.calls}

    await until(is_asked, CONVERGE_S, lambda: f"{len(proxy.calls)} calls")


def is_of_resources(call: Call) -> bool:
    return "seesawdeployments?" in call[1] and "watch=" in call[1]


async def test_what_is_refused_of_the_routers_is_known_before_devices_are_taken(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "first-asked")
    async with operated(apiserver, "first-asked", tmp_path) as (proxy, operator):
        proxy.refuse = lambda call: 422 if call[0] == "PATCH" and "-router?" in call[1] else None
        await deploy(apiserver, "first-asked", SPEC)
        await told(apiserver, "first-asked", operator, "Accepted", reason="NotApplied")
        found = await apiserver.get(path("first-asked", "statefulsets"))
        assert found["items"] == []


async def test_a_lease_that_another_has_taken_ends_an_operator_within_seconds(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "lease-taken")
    async with operated(apiserver, "lease-taken", tmp_path) as (_, operator):
        await deploy(apiserver, "lease-taken", SPEC)
        await converged(apiserver, "lease-taken", operator)
        lease = "/apis/coordination.k8s.io/v1/namespaces/lease-taken/leases/operator"
        await apiserver.patch(lease, {"spec": {"holderIdentity": "another"}})
        await until(
            lambda: asyncio.sleep(0, not operator.is_alive),
            8.0,
            lambda: operator.log.read_text()[-3000:],
        )
        assert await operator.stop() == 1
        assert (await apiserver.get(lease))["spec"]["holderIdentity"] == "another"
