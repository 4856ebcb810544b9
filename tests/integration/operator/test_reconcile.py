"""The operator on a real kube-apiserver: what it makes, what it leaves alone, what it survives."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from control_plane.apiserver import ApiServer, Json
from control_plane.operators import Operator
from control_plane.processes import until
from control_plane.proxy import Proxy
from control_plane.resources import (
    CONVERGE_S,
    OBJECTS,
    SPEC,
    as_asked_for,
    conditions,
    converged,
    deploy,
    make_namespace,
    objects,
    operated,
    path,
    put_pod,
    resource,
    set_container_state,
    versions,
)

QUIET_S = 8.0
LEASE_S = 30.0


async def test_a_resource_gets_its_objects_and_a_status(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "first")
    async with operated(apiserver, "first", tmp_path) as (_, operator):
        await deploy(apiserver, "first", SPEC)
        assert set(await converged(apiserver, "first", operator)) == OBJECTS
        found = await conditions(apiserver, "first")
        assert {name: c["status"] for name, c in found.items()} == {
            "Accepted": "True",
            "WorkersReady": "False",
            "RouterReady": "False",
            "Available": "False",
            "Ready": "False",
            "Reconciling": "True",
            "Stalled": "False",
            "Degraded": "False",
        }
        status = (await apiserver.get(resource("first")))["status"]
        assert "layouts" not in status  # the workers will choose them, and tell
        assert status["url"] == "http://llama.first.svc/v1"
        listed = apiserver.kubectl("get", "ssd", "-n", "first")
        assert listed.split()[:8] == [
            "NAME",
            "READY",
            "REPLICAS",
            "PREFILL",
            "DECODE",
            "TOK/S",
            "URL",
            "AGE",
        ]
        assert await operator.stop() == 0


async def test_each_line_of_its_log_is_json_and_names_the_resource(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "logged")
    flags = ("--log-format=json", "--log-level=debug")
    async with operated(apiserver, "logged", tmp_path, *flags) as (_, operator):
        await deploy(apiserver, "logged", SPEC)
        await converged(apiserver, "logged", operator)
        assert await operator.stop() == 0
    lines = [json.loads(line) for line in operator.log.read_text().splitlines()]
    told = {(line["logger"], line["level"], line.get("object")) for line in lines}
    assert ("seesaw_operator.main", "info", None) in told
    assert ("seesaw_operator.cluster", "info", "logged/llama") in told
    assert ("kopf.objects", "info", "logged/llama") in told


async def test_an_apiserver_behind_a_proxy_is_reached_as_the_environment_says(
    apiserver: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_namespace(apiserver, "behind")
    await deploy(apiserver, "behind", SPEC)
    async with Proxy(apiserver).running() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "10.0.0.0/8")
        proxy.url = "http://apiserver.invalid"  # by which nobody could reach it
        operator = Operator(proxy, "behind", tmp_path)
        try:
            assert set(await converged(apiserver, "behind", operator)) == OBJECTS
        finally:
            operator.end()


async def test_what_is_as_it_should_be_is_not_written_and_not_asked_for(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "quiet")
    async with operated(apiserver, "quiet", tmp_path) as (_, operator):
        await deploy(apiserver, "quiet", SPEC | {"replicas": 0})
        found = await converged(apiserver, "quiet", operator)
        for name in ("statefulsets/llama-worker", "deployments/llama-router"):  # as controllers do
            counted = {"observedGeneration": found[name]["metadata"]["generation"], "replicas": 0}
            await apiserver.patch(f"{path('quiet', *name.split('/'))}/status", {"status": counted})

        async def is_settled() -> bool:
            return bool((await conditions(apiserver, "quiet"))["Reconciling"]["status"] == "False")

        await until(is_settled, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
        before = versions(await objects(apiserver, "quiet"))
        itself = (await apiserver.get(resource("quiet")))["metadata"]["resourceVersion"]
    async with operated(apiserver, "quiet", tmp_path, "--resync-s=2") as (proxy, operator):
        await until(
            lambda: asyncio.sleep(0, any("watch=true" in path for _, path in proxy.calls)),
            CONVERGE_S,
            lambda: operator.log.read_text()[-3000:],
        )
        await asyncio.sleep(6.0)  # several resyncs
        assert proxy.writes == []
        assert versions(await objects(apiserver, "quiet")) == before
        assert (await apiserver.get(resource("quiet")))["metadata"]["resourceVersion"] == itself
        count = len(proxy.calls)
        await asyncio.sleep(QUIET_S)
        assert [c for c in proxy.calls[count:] if "/leases" not in c[1]] == []


async def test_what_somebody_changes_or_deletes_is_put_back(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "drift")
    async with operated(apiserver, "drift", tmp_path) as (_, operator):
        await deploy(apiserver, "drift", SPEC)
        before = await converged(apiserver, "drift", operator)
        workers = path("drift", "statefulsets", "llama-worker")
        await apiserver.patch(workers, {"spec": {"replicas": 7}})
        service = path("drift", "services", "llama")
        await apiserver.patch(service, {"metadata": {"labels": {"seesaw.dev/deployment": None}}})
        await apiserver.ask("DELETE", path("drift", "deployments", "llama-router"))

        async def is_back() -> bool:
            now = await objects(apiserver, "drift")
            return set(now) == OBJECTS and all(
                as_asked_for(now[n], "drift") == as_asked_for(before[n], "drift") for n in OBJECTS
            )

        await until(is_back, CONVERGE_S, lambda: operator.log.read_text()[-3000:])


async def test_a_new_spec_is_rolled_into_the_objects(apiserver: ApiServer, tmp_path: Path) -> None:
    await make_namespace(apiserver, "change")
    async with operated(apiserver, "change", tmp_path) as (_, operator):
        await deploy(apiserver, "change", SPEC)
        await converged(apiserver, "change", operator)
        scale = await apiserver.patch(f"{resource('change')}/scale", {"spec": {"replicas": 3}})
        assert scale["spec"]["replicas"] == 3, scale
        await apiserver.patch(resource("change"), {"spec": {"engine": {"image": "mine:2"}}})
        found = await converged(apiserver, "change", operator)
        workers = found["statefulsets/llama-worker"]["spec"]
        assert workers["replicas"] == 3
        assert workers["template"]["spec"]["containers"][0]["image"] == "mine:2"


async def test_a_pods_trouble_is_told_with_the_next_step(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "sick")
    async with operated(apiserver, "sick", tmp_path) as (_, operator):
        await deploy(apiserver, "sick", SPEC)
        found = await converged(apiserver, "sick", operator)
        template = found["statefulsets/llama-worker"]["spec"]["template"]
        await put_pod(apiserver, "sick", template)
        waiting = {"reason": "ImagePullBackOff", "message": "no such tag"}
        await set_container_state(apiserver, "sick", {"waiting": waiting})

        async def is_told() -> bool:
            ready = (await conditions(apiserver, "sick"))["Ready"]
            return bool(ready["reason"] == "ImagePullFailed" and "engine.image" in ready["message"])

        await until(is_told, CONVERGE_S, lambda: operator.log.read_text()[-3000:])

        async def is_recorded() -> bool:
            events = await apiserver.get("/api/v1/namespaces/sick/events")
            return any(
                e["reason"] == "ImagePullFailed" and e["type"] == "Warning" for e in events["items"]
            )

        await until(is_recorded, CONVERGE_S, lambda: operator.log.read_text()[-3000:])


async def test_an_operator_killed_after_any_one_of_its_calls_converges_when_it_is_back(
    apiserver: ApiServer, tmp_path: Path
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
                await asyncio.sleep(1.0)  # for the Events
            num_writes = len(proxy.writes)
        async with operated(apiserver, namespace, tmp_path) as (_, operator):
            found = await converged(apiserver, namespace, operator)
            made = {name: as_asked_for(body, namespace) for name, body in found.items()}
            return made | {"conditions": _told(await conditions(apiserver, namespace))}, num_writes

    expected, num_writes = await run("unharmed", None)
    assert num_writes >= len(OBJECTS) + 2  # the status, and an Event
    for first in range(1, num_writes + 1, 4):
        several = range(first, min(first + 4, num_writes + 1))
        results = await asyncio.gather(*(run(f"killed-{n}", n) for n in several))
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
            await asyncio.sleep(6.0)
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
        second = Operator(proxy, "fought", tmp_path, lease="two", flags=("--drain-s=8",))
        try:

            async def is_told() -> bool:
                events = await apiserver.get("/api/v1/namespaces/fought/events")
                return any(
                    e["reason"] == "ManagedElsewhere" and "fought/one" in e["message"]
                    for e in events["items"]
                )

            await until(is_told, CONVERGE_S, lambda: second.log.read_text()[-3000:])
            await asyncio.sleep(5.0)
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


async def test_somebody_elses_object_is_left_alone_and_told(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "taken")
    port = {"port": 80, "targetPort": 80, "protocol": "TCP"}
    theirs = {"metadata": {"name": "llama"}, "spec": {"ports": [port], "selector": {"app": "x"}}}
    await apiserver.create(path("taken", "services"), theirs)
    async with operated(apiserver, "taken", tmp_path) as (_, operator):
        await deploy(apiserver, "taken", SPEC)

        async def is_told() -> bool:
            accepted = (await conditions(apiserver, "taken")).get("Accepted", {})
            return accepted.get("status") == "False" and "Service llama" in accepted["message"]

        await until(is_told, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
        found = await apiserver.get(path("taken", "services", "llama"))
        assert found["spec"]["selector"] == {"app": "x"}
        assert "ownerReferences" not in found["metadata"]
        assert await objects(apiserver, "taken") == {}  # no device is taken for nothing
        await apiserver.ask("DELETE", path("taken", "services", "llama"))

        async def is_accepted() -> bool:
            return bool((await conditions(apiserver, "taken"))["Accepted"]["status"] == "True")

        await until(is_accepted, CONVERGE_S, lambda: operator.log.read_text()[-3000:])


async def test_what_the_apiserver_does_not_take_is_told_in_its_words(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "refused")
    async with operated(apiserver, "refused", tmp_path) as (_, operator):
        nowhere = {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.nope"}}}
        await deploy(apiserver, "refused", SPEC | {"engine": {"env": [nowhere]}})

        async def is_told() -> bool:
            accepted = (await conditions(apiserver, "refused")).get("Accepted", {})
            return accepted.get("reason") == "NotApplied" and "status.nope" in accepted["message"]

        await until(is_told, CONVERGE_S, lambda: operator.log.read_text()[-3000:])


async def test_what_an_orphaning_deletion_left_is_adopted_by_the_next_of_that_name(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "orphans")
    async with operated(apiserver, "orphans", tmp_path) as (_, operator):
        await deploy(apiserver, "orphans", SPEC)
        before = await converged(apiserver, "orphans", operator)
        orphan = {"propagationPolicy": "Orphan"}
        await apiserver.ask("DELETE", resource("orphans"), orphan)
        for name in before:  # as the garbage collector would, which does not run here
            await apiserver.patch(
                path("orphans", *name.split("/")), {"metadata": {"ownerReferences": None}}
            )
        await apiserver.patch(resource("orphans"), {"metadata": {"finalizers": None}})
        made = await deploy(apiserver, "orphans", SPEC | {"replicas": 2})
        after = await converged(apiserver, "orphans", operator)
        assert {n: b["metadata"]["uid"] for n, b in after.items()} == {
            n: b["metadata"]["uid"] for n, b in before.items()
        }
        for body in after.values():
            (owner,) = body["metadata"]["ownerReferences"]
            assert owner["uid"] == made["metadata"]["uid"]
        assert after["statefulsets/llama-worker"]["spec"]["replicas"] == 2


async def test_pods_that_are_refused_are_told_with_the_words_of_their_controllers_event(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "quota")
    async with operated(apiserver, "quota", tmp_path) as (_, operator):
        await deploy(apiserver, "quota", SPEC)
        found = await converged(apiserver, "quota", operator)
        workers = found["statefulsets/llama-worker"]["metadata"]
        said = "create Pod llama-worker-0 failed error: exceeded quota: gpus, used: 8, limited: 8"
        event = {
            "metadata": {"generateName": "llama-worker-"},
            "involvedObject": {
                "kind": "StatefulSet",
                "name": "llama-worker",
                "namespace": "quota",
                "uid": workers["uid"],
            },
            "type": "Warning",
            "reason": "FailedCreate",
            "message": said,
            "lastTimestamp": "2026-01-01T00:00:00Z",
        }
        made = await apiserver.create("/api/v1/namespaces/quota/events", event)
        assert made["kind"] == "Event", made

        async def is_told() -> bool:
            degraded = (await conditions(apiserver, "quota"))["Degraded"]
            return degraded["reason"] == "PodsRefused" and "limited: 8" in degraded["message"]

        await until(is_told, CONVERGE_S, lambda: operator.log.read_text()[-3000:])


async def test_an_apiserver_in_trouble_is_not_told_as_a_users_mistake(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "busy")
    async with operated(apiserver, "busy", tmp_path) as (proxy, operator):
        refused: list[tuple[str, str]] = []

        def refuse(call: tuple[str, str]) -> int | None:
            if call[0] == "PATCH" and "/statefulsets/" in call[1] and len(refused) < 3:
                refused.append(call)
                return (429, 503, 500)[len(refused) - 1]
            return None

        proxy.refuse = refuse
        await deploy(apiserver, "busy", SPEC)
        await converged(apiserver, "busy", operator)
        assert len(refused) == 3
        events = (await apiserver.get("/api/v1/namespaces/busy/events"))["items"]
        assert not [e for e in events if e["reason"] == "NotApplied"]


async def test_any_character_of_a_spec_or_a_log_gets_through(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    odd = "naïve 🚀 𝒳 \u0085\u2028\ufeff"
    await make_namespace(apiserver, "odd")
    async with operated(apiserver, "odd", tmp_path) as (_, operator):
        await deploy(apiserver, "odd", SPEC | {"engine": {"env": [{"name": "A", "value": odd}]}})
        found = await converged(apiserver, "odd", operator)
        template = found["statefulsets/llama-worker"]["spec"]["template"]
        assert {"name": "A", "value": odd} in template["spec"]["containers"][0]["env"]
        await put_pod(apiserver, "odd", template)
        ended = {"exitCode": 1, "message": f"it broke: {odd.split()[1]}"}
        await set_container_state(apiserver, "odd", {"terminated": ended})

        async def is_told() -> bool:
            degraded = (await conditions(apiserver, "odd"))["Degraded"]
            return "it broke: 🚀" in degraded["message"]

        await until(is_told, CONVERGE_S, lambda: operator.log.read_text()[-3000:])


async def test_a_watch_that_is_cut_is_taken_up_again(apiserver: ApiServer, tmp_path: Path) -> None:
    await make_namespace(apiserver, "cut")
    async with operated(apiserver, "cut", tmp_path) as (proxy, operator):
        await deploy(apiserver, "cut", SPEC)
        await converged(apiserver, "cut", operator)
        assert proxy.cut() >= 8
        await asyncio.sleep(3.0)
        await apiserver.patch(
            path("cut", "statefulsets", "llama-worker"), {"spec": {"replicas": 5}}
        )

        async def is_back() -> bool:
            found = await apiserver.get(path("cut", "statefulsets", "llama-worker"))
            return bool(found["spec"]["replicas"] == 1)

        await until(is_back, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
        assert operator.is_alive
