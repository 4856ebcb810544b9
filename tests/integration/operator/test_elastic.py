"""Elastic instances on a real kube-apiserver: a change of mode, and who is told of a loss."""

import contextlib
import dataclasses
from pathlib import Path

from seesaw_core.messages import ElasticState
from support.control_plane.apiserver import ApiServer
from support.control_plane.processes import until
from support.control_plane.resources import (
    CONVERGE_S,
    SPEC,
    converged,
    deploy,
    events,
    make_namespace,
    operated,
    path,
    resource,
    told,
)
from support.control_plane.workers import worker_pod
from support.fake_worker.engine import Engine
from support.resource_specs.making import INSTANCES, PAIR, TWO

MOST = 2**63 - 1
WHOLE = ElasticState(
    capacity_tokens=(1000, 1000, 1000),
    free_tokens=(750, 1000, 1000),
    lost_instances=(),
    groups=(),
    num_running=2,
    prefills_by_degree={"1": 4, "3": 1},
    decodes_by_degree={"1": MOST},
    failed_iterations=0,
    preemptions=0,
    restarts=0,
    migrated_tokens=0,
    migrated_bytes=MOST,
)
ELASTIC = {
    "accelerator": {"count": 3},
    "parallelism": INSTANCES | {"elastic": {"instances": 3}},
}


async def test_a_change_of_mode_is_a_rollout_and_back(apiserver: ApiServer, tmp_path: Path) -> None:
    await make_namespace(apiserver, "modes")
    workers = path("modes", "statefulsets", "llama-worker")

    async def args() -> set[str]:
        template = (await apiserver.get(workers))["spec"]["template"]
        return set(template["spec"]["containers"][0]["args"])

    async with operated(apiserver, "modes", tmp_path) as (_, operator):
        await deploy(apiserver, "modes", SPEC | TWO | {"parallelism": PAIR})
        await converged(apiserver, "modes", operator)
        assert "--prefill-pipeline-parallel-size=2" in await args()
        none = {"prefill": None, "decode": None}
        elastic = {"spec": {"parallelism": INSTANCES | none}}
        await apiserver.patch(resource("modes"), elastic)
        await converged(apiserver, "modes", operator)
        assert {"--elastic-instances=2", "--tensor-parallel-size=1"} <= await args()
        status = (await apiserver.get(resource("modes")))["status"]
        assert status["layouts"] == {"prefill": "2×T1", "decode": "2×T1"}
        back = {"spec": {"parallelism": PAIR | {"mode": "Manual", "elastic": None}}}
        await apiserver.patch(resource("modes"), back)
        await converged(apiserver, "modes", operator)
        assert "--prefill-pipeline-parallel-size=2" in await args()


async def test_each_loss_is_told_once_whatever_operator_leads(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "lossy")
    engine = Engine("m", 0.0)
    engine.elastic = WHOLE
    async with contextlib.AsyncExitStack() as stack:
        async with operated(apiserver, "lossy", tmp_path) as (_, operator):
            await deploy(apiserver, "lossy", SPEC | ELASTIC)
            await converged(apiserver, "lossy", operator)
            await stack.enter_async_context(worker_pod(apiserver, "lossy", engine))

            async def is_measured() -> bool:
                status = (await apiserver.get(resource("lossy"))).get("status", {})
                return "elastic" in status.get("measured", {})

            await until(is_measured, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
            status = (await apiserver.get(resource("lossy")))["status"]
            assert status["measured"]["elastic"] == {
                "instances": "3/3",
                "lostInstances": 0,
                "iterations": [
                    {"degree": 1, "prefills": 4, "decodes": MOST},
                    {"degree": 3, "prefills": 1, "decodes": 0},
                ],
                "migratedBytes": MOST,
                "workers": [
                    {"pod": "llama-worker-0", "lost": [], "kvUsedPercent": [25, 0, 0]},
                ],
            }
            listed = apiserver.kubectl("get", "ssd", "-n", "lossy", "-o", "wide")
            assert "3/3" in listed.splitlines()[1].split()
            engine.elastic = dataclasses.replace(WHOLE, lost_instances=(1,))
            await told(apiserver, "lossy", operator, "Degraded", "1 of 3", reason="InstancesLost")
        async with operated(apiserver, "lossy", tmp_path) as (_, operator):
            engine.elastic = dataclasses.replace(WHOLE, lost_instances=(1, 2))
            await told(apiserver, "lossy", operator, "Degraded", "2 of 3", reason="InstancesLost")

            async def are_told() -> bool:
                return len(await events(apiserver, "lossy", "InstancesLost")) == 2

            await until(are_told, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
            messages = {e["message"] for e in await events(apiserver, "lossy", "InstancesLost")}
            assert len(messages) == 2
            engine.elastic = WHOLE
            await told(apiserver, "lossy", operator, "Degraded", reason="NoTrouble")
