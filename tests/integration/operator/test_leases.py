"""Operators on a real kube-apiserver that are killed, cut off or not alone."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.operators import Operator
from support.control_plane.processes import until
from support.control_plane.proxy import Proxy
from support.control_plane.resources import (
    CONVERGE_S,
    OBJECTS,
    SPEC,
    as_asked_for,
    compared,
    conditions,
    converged,
    deploy,
    make_namespace,
    objects,
    operated,
    path,
    resource,
    versions,
)

LEASE_S = 30.0


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
async def test_an_operator_killed_after_any_one_of_its_calls_converges_when_it_is_back(
    apiserver: ApiServer, tmp_path: Path, step: int
) -> None:
    async def run(namespace: str, kill_after: int | None) -> tuple[dict[str, Any], int]:
        await make_namespace(apiserver, namespace)
        await deploy(apiserver, namespace, SPEC)
        async with operated(apiserver, namespace, tmp_path) as (proxy, operator):
            if kill_after is not None:
                killer = operator

                def hear(number: int) -> None:
                    if number == kill_after:
                        killer.kill()

                proxy.on_write = hear
                await until(
                    lambda: asyncio.sleep(0, not operator.is_alive),
                    CONVERGE_S,
                    lambda: f"{namespace}: it never made call {kill_after}",
                )
            else:
                await converged(apiserver, namespace, operator)
                await until(
                    lambda: asyncio.sleep(0, any("/events" in path for _, path in proxy.writes)),
                    CONVERGE_S,
                    lambda: f"{namespace}: no Event",
                )
            num_writes = len(proxy.writes)
        async with operated(apiserver, namespace, tmp_path) as (_, operator):
            found = await converged(apiserver, namespace, operator)
            made = {name: as_asked_for(body, namespace) for name, body in found.items()}
            return made | {"conditions": _told(await conditions(apiserver, namespace))}, num_writes

    expected, num_writes = await run(f"unharmed-{step}", None)
    assert num_writes >= len(OBJECTS) + 2  # the status, and an Event
    calls = range(1, num_writes + 1, step)
    for first in range(0, len(calls), 4):
        several = calls[first : first + 4]
        results = await asyncio.gather(*(run(f"killed-{step}-{n}", n) for n in several))
        for number, (found, seen) in zip(several, results, strict=True):
            assert seen == number
            assert found == expected, f"killed after call {number}"


def _told(found: dict[str, Json]) -> dict[str, tuple[str, str]]:
    return {name: (c["status"], c["reason"]) for name, c in found.items()}


async def test_two_operators_never_act_at_once(apiserver: ApiServer, tmp_path: Path) -> None:
    await make_namespace(apiserver, "shared")
    async with (
        operated(apiserver, "shared", tmp_path, lease="one") as (_, first),
        Proxy(apiserver).running() as proxy,
    ):
        await deploy(apiserver, "shared", SPEC)
        await converged(apiserver, "shared", first)
        second = Operator(proxy, "shared", tmp_path, lease="one")
        try:
            await until(
                lambda: asyncio.sleep(0, sum("/leases" in path for _, path in proxy.calls) >= 3),
                CONVERGE_S,
                lambda: second.log.read_text()[-3000:],
            )
            assert second.is_alive
            assert proxy.writes == []
            assert await first.stop() == 0  # and so gives the Lease back
            await apiserver.patch(resource("shared"), {"spec": {"replicas": 2}})
            await until(
                lambda: asyncio.sleep(0, bool(proxy.writes)), 12.0, lambda: "nobody took over"
            )
        finally:
            second.end()


async def test_calls_without_an_answer_do_not_keep_it_from_its_lease(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "slow")
    async with operated(apiserver, "slow", tmp_path) as (proxy, operator):
        proxy.hang = lambda call: call[0] == "GET" and "/llama-" in call[1]
        await asyncio.gather(
            *(deploy(apiserver, "slow", SPEC, name=f"llama-{n}") for n in range(15))
        )
        await until(
            lambda: asyncio.sleep(0, sum(map(proxy.hang, proxy.calls)) > 80),
            CONVERGE_S,
            lambda: f"{len(proxy.calls)} calls",
        )
        await asyncio.sleep(LEASE_S + 3.0)
        assert operator.is_alive, operator.log.read_text()[-3000:]


@pytest.mark.parametrize("answers", [True, False], ids=["refused", "unanswered"])
async def test_an_operator_that_cannot_renew_its_lease_ends_before_another_may_act(
    apiserver: ApiServer, tmp_path: Path, answers: bool
) -> None:
    namespace = f"lost-{answers}".lower()
    await make_namespace(apiserver, namespace)
    async with operated(apiserver, namespace, tmp_path) as (proxy, operator):
        await deploy(apiserver, namespace, SPEC)
        await converged(apiserver, namespace, operator)
        began = asyncio.get_running_loop().time()
        if answers:
            proxy.refuse = lambda call: 503 if "/leases" in call[1] else None
        else:
            proxy.hang = lambda _: True
        await until(
            lambda: asyncio.sleep(0, not operator.is_alive),
            LEASE_S + 3.0,
            lambda: operator.log.read_text()[-3000:],
        )
        assert asyncio.get_running_loop().time() - began > 2.0, "one failure is not the end"
        assert await operator.stop() == 1


async def test_of_two_releases_one_looks_after_a_resource_and_the_other_says_so(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "fought")
    async with (
        operated(apiserver, "fought", tmp_path, "--drain-s=7", lease="one") as (_, first),
        Proxy(apiserver).running() as proxy,
    ):
        await deploy(apiserver, "fought", SPEC)
        before = versions(await converged(apiserver, "fought", first))
        second = Operator(
            proxy, "fought", tmp_path, lease="two", flags=("--drain-s=8", "--resync-s=2")
        )
        try:

            async def is_told() -> bool:
                events = await apiserver.get("/api/v1/namespaces/fought/events")
                return any(
                    e["reason"] == "ManagedElsewhere" and "fought/one" in e["message"]
                    for e in events["items"]
                )

            await until(is_told, CONVERGE_S, lambda: second.log.read_text()[-3000:])
            await compared(second, times=3)
            assert versions(await objects(apiserver, "fought")) == before
            assert {w for w in proxy.writes if "/events" not in w[1]} == set()
            assert await first.stop() == 0  # and so gives its Lease back
            await apiserver.patch(resource("fought"), {"spec": {"replicas": 2}})

            async def is_taken_over() -> bool:
                found = await apiserver.get(path("fought", "statefulsets", "llama-worker"))
                return "--drain-timeout-s=8" in str(found["spec"]["template"])

            await until(is_taken_over, CONVERGE_S, lambda: second.log.read_text()[-3000:])
        finally:
            second.end()
