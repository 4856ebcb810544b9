"""The operator on a real kube-apiserver: what it makes, what it leaves alone, what it puts back."""

import asyncio
import json
from pathlib import Path

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
    told,
    versions,
)


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
    assert ("seesaw_operator.cluster.client", "info", "logged/llama") in told
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
        await told(apiserver, "quiet", operator, "Reconciling", status="False")
        before = versions(await objects(apiserver, "quiet"))
        itself = (await apiserver.get(resource("quiet")))["metadata"]["resourceVersion"]
    async with operated(apiserver, "quiet", tmp_path, "--resync-s=2") as (proxy, operator):
        await compared(operator, times=3)
        assert proxy.writes == []
        assert versions(await objects(apiserver, "quiet")) == before
        assert (await apiserver.get(resource("quiet")))["metadata"]["resourceVersion"] == itself
        count = len(proxy.calls)
        await compared(operator, times=3)
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


ODD_DRIFT: dict[str, tuple[tuple[str, str], Json]] = {
    "a Service's port": (
        ("services", "llama"),
        {"spec": {"ports": [{"name": "http", "port": 81, "targetPort": "http"}]}},
    ),
    "the workers' Service's port": (
        ("services", "llama-worker"),
        {"spec": {"ports": [{"name": "engine-0", "port": 9000}]}},
    ),
    "the other bound of a budget": (
        ("poddisruptionbudgets", "llama-worker"),
        {"spec": {"maxUnavailable": None, "minAvailable": 1}},
    ),
    "a container's port": (
        ("deployments", "llama-router"),
        {
            "spec": {
                "template": {
                    "spec": {
                        "containers": [
                            {
                                "name": "router",
                                "image": "x",
                                "ports": [{"name": "http", "containerPort": 9999}],
                            }
                        ]
                    }
                }
            }
        },
    ),
}


@pytest.mark.parametrize("what", ODD_DRIFT)
async def test_a_change_beside_which_ours_cannot_stand_is_put_back_and_keeps_nothing_else_back(
    apiserver: ApiServer, tmp_path: Path, what: str
) -> None:
    (plural, name), change = ODD_DRIFT[what]
    namespace = f"odd-{list(ODD_DRIFT).index(what)}"
    await make_namespace(apiserver, namespace)
    async with operated(apiserver, namespace, tmp_path) as (_, operator):
        await deploy(apiserver, namespace, SPEC)
        before = await converged(apiserver, namespace, operator)
        await apiserver.patch(path(namespace, plural, name), change)
        await apiserver.patch(
            path(namespace, "statefulsets", "llama-worker"), {"spec": {"replicas": 7}}
        )

        async def is_back() -> bool:
            now = await objects(apiserver, namespace)
            return set(now) == OBJECTS and all(
                as_asked_for(now[n], namespace) == as_asked_for(before[n], namespace)
                for n in OBJECTS
            )

        await until(is_back, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
        await compared(operator, times=2)


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


async def test_a_watch_that_is_cut_is_taken_up_again(apiserver: ApiServer, tmp_path: Path) -> None:
    await make_namespace(apiserver, "cut")
    async with operated(apiserver, "cut", tmp_path) as (proxy, operator):
        await deploy(apiserver, "cut", SPEC)
        await converged(apiserver, "cut", operator)
        count = len(proxy.calls)
        num_cut = proxy.cut()
        assert num_cut >= 8
        await until(
            lambda: asyncio.sleep(
                0, sum("watch=true" in path for _, path in proxy.calls[count:]) >= num_cut
            ),
            CONVERGE_S,
            lambda: operator.log.read_text()[-3000:],
        )
        await apiserver.patch(
            path("cut", "statefulsets", "llama-worker"), {"spec": {"replicas": 5}}
        )

        async def is_back() -> bool:
            found = await apiserver.get(path("cut", "statefulsets", "llama-worker"))
            return bool(found["spec"]["replicas"] == 1)

        await until(is_back, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
        assert operator.is_alive
