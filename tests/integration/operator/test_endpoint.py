"""The Service, the timing and the pause of a resource on a real kube-apiserver."""

from pathlib import Path

from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.operators import Operator
from support.control_plane.processes import until
from support.control_plane.resources import (
    CONVERGE_S,
    SPEC,
    conditions,
    converged,
    deploy,
    make_namespace,
    operated,
    path,
    resource,
)

WORKERS, ROUTERS = "statefulsets/llama-worker", "deployments/llama-router"


async def test_the_service_becomes_what_the_spec_says_and_goes_back(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "service")
    wanted = {
        "type": "LoadBalancer",
        "labels": {"team": "search"},
        "annotations": {"example.com/internal": "true"},
        "loadBalancerClass": "example.com/nlb",
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "externalTrafficPolicy": "Local",
    }
    async with operated(apiserver, "service", tmp_path) as (_, operator):

        async def service_with(service: Json | None) -> Json:
            patch = {"spec": {"router": {"service": service}}}
            answer = await apiserver.patch(resource("service"), patch)
            assert answer["kind"] == "SeesawDeployment", answer
            found = (await converged(apiserver, "service", operator))["services/llama"]
            assert (await conditions(apiserver, "service"))["Accepted"]["status"] == "True"
            return found

        await deploy(apiserver, "service", SPEC)
        bare = (await converged(apiserver, "service", operator))["services/llama"]
        assert bare["spec"]["type"] == "ClusterIP"
        made = await service_with(wanted)
        assert made["metadata"]["labels"]["team"] == "search"
        assert made["metadata"]["annotations"]["example.com/internal"] == "true"
        for field in wanted.keys() - {"labels", "annotations"}:
            assert made["spec"][field] == wanted[field]
        assert made["spec"]["ports"][0]["nodePort"]
        back = await service_with(None)
        assert back["spec"] == bare["spec"]
        assert back["metadata"]["labels"] == bare["metadata"]["labels"]
        assert "example.com/internal" not in back["metadata"]["annotations"]


async def test_a_resources_own_timing_reaches_its_pods(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "patient")
    async with operated(apiserver, "patient", tmp_path, "--drain-s=7") as (_, operator):
        await deploy(apiserver, "patient", SPEC | {"timing": {"drainSeconds": 100}})
        found = await converged(apiserver, "patient", operator)
    for name in (WORKERS, ROUTERS):
        pod = found[name]["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] == 5 + 100 + 30
        assert "--drain-timeout-s=100" in pod["containers"][0]["args"]


async def settle(server: ApiServer, name: str, operator: Operator, updated: int = 1) -> None:
    """Say what the controllers, which do not run here, would."""
    found = await converged(server, "paused", operator)
    counts = {"replicas": 1, "updatedReplicas": updated, "availableReplicas": 1, "readyReplicas": 1}
    status = counts | {"observedGeneration": found[name]["metadata"]["generation"]}
    await server.patch(f"{path('paused', *name.split('/'))}/status", {"status": status})


async def test_a_pause_waits_for_the_first_pods_and_keeps_them_until_it_ends(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "paused")

    async def rollouts() -> tuple[int, bool | None]:
        workers = await apiserver.get(path("paused", *WORKERS.split("/")))
        routers = await apiserver.get(path("paused", *ROUTERS.split("/")))
        partition = workers["spec"]["updateStrategy"]["rollingUpdate"].get("partition", 0)
        is_paused = routers["spec"].get("paused", False) if "spec" in routers else None
        return partition, is_paused

    async with operated(apiserver, "paused", tmp_path) as (_, operator):

        async def until_rollouts(expected: tuple[int, bool]) -> None:
            async def is_so() -> bool:
                return await rollouts() == expected

            await until(is_so, CONVERGE_S, lambda: operator.log.read_text()[-3000:])

        await deploy(apiserver, "paused", SPEC | {"paused": True})
        await converged(apiserver, "paused", operator)
        assert await rollouts() == (1, False), "or there would never be a router"
        await settle(apiserver, ROUTERS, operator)
        await until_rollouts((1, True))
        await apiserver.patch(resource("paused"), {"spec": {"engine": {"image": "mine:2"}}})
        found = await converged(apiserver, "paused", operator)
        assert found[WORKERS]["spec"]["template"]["spec"]["containers"][0]["image"] == "mine:2"
        await apiserver.ask("DELETE", path("paused", *ROUTERS.split("/")))
        await until_rollouts((1, False))  # the routers come back, and no worker goes
        await apiserver.patch(resource("paused"), {"spec": {"paused": False}})
        await until_rollouts((0, False))
