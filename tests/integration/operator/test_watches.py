"""The watch on resources, on a real kube-apiserver: what is odd in one place harms no other."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.processes import until
from support.control_plane.resources import (
    CONVERGE_S,
    SPEC,
    converged,
    deploy,
    make_namespace,
    operated,
    resource,
)

DEEP = 9_000
"""Levels; the apiserver stores up to 10,000."""
LEASE = "/apis/coordination.k8s.io/v1/namespaces/ends/leases/one"


@pytest.fixture
def deep_json() -> Iterator[Json]:
    """What Python writes and reads only with a higher limit than its own."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    affinity: Json = {}
    for _ in range(DEEP):
        affinity = {"a": affinity}
    yield affinity
    sys.setrecursionlimit(limit)


async def test_a_resource_that_is_nested_without_end_is_refused_and_ends_no_operator(
    apiserver: ApiServer, tmp_path: Path, deep_json: Json
) -> None:
    await make_namespace(apiserver, "deep")
    more = {"engine": {"podTemplate": {"spec": {"affinity": deep_json}}}}
    await deploy(apiserver, "deep", SPEC | more, "endless")
    await deploy(apiserver, "deep", SPEC)
    for _ in range(2):  # it is read when an operator starts
        async with operated(apiserver, "deep", tmp_path) as (_, operator):
            await converged(apiserver, "deep", operator)
            assert operator.is_alive

            async def is_refused() -> bool:
                status = (await apiserver.get(resource("deep", "endless"))).get("status", {})
                return any("nested" in c["message"] for c in status.get("conditions", ()))

            await until(is_refused, CONVERGE_S, lambda: operator.log.read_text()[-3000:])


async def test_a_namespace_that_may_not_be_watched_keeps_no_other_back(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    for namespace in ("fine", "forbidden"):
        await make_namespace(apiserver, namespace)
        await deploy(apiserver, namespace, SPEC)
    async with operated(apiserver, "fine", tmp_path, "--namespace=forbidden") as (proxy, operator):
        proxy.refuse = lambda call: 403 if "/namespaces/forbidden/seesaw" in call[1] else None
        await converged(apiserver, "fine", operator)

        async def has_failed() -> bool:
            return "the watch on seesawdeployments in forbidden" in operator.log.read_text()

        await until(has_failed, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
        await apiserver.patch(resource("fine"), {"spec": {"replicas": 2}})
        await converged(apiserver, "fine", operator)
        proxy.refuse = lambda _: None  # its RoleBinding is back
        await converged(apiserver, "forbidden", operator)
        assert operator.is_alive


async def test_an_operator_that_is_told_to_stop_gives_its_lease_back_at_once(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "ends")
    for _ in range(3):
        async with operated(apiserver, "ends", tmp_path, lease="one") as (_, operator):
            await deploy(apiserver, "ends", SPEC, f"llama-{os.urandom(3).hex()}")

            async def leads() -> bool:
                found = await apiserver.ask("GET", LEASE)
                return bool(found.get("spec", {}).get("holderIdentity"))

            await until(leads, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
            assert await operator.stop() == 0
            assert not (await apiserver.get(LEASE))["spec"].get("holderIdentity")
