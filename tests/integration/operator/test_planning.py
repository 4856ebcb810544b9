"""Plans on a real kube-apiserver: told in the status, proposed in one Event, applied if allowed."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

from seesaw_core.messages import PlanSummary, Proposal
from seesaw_operator.objects.worker import PLANNED_FOR
from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.operators import Operator
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
)
from support.control_plane.workers import worker_pod
from support.fake_worker.engine import Engine

PLAN = PlanSummary(
    prefill="T2",
    decode="T2",
    reason="re-sharding would change throughput by +1 % only",
    accelerator="L4",
    prompt_tokens=1000,
    output_tokens=250,
    predicted_tokens_per_s=400,
    baseline_tokens_per_s=400,
    gain_percent=0,
    num_running=32,
)
PROPOSED = Proposal(
    prefill="P2",
    decode="T2",
    gain_percent=12,
    reason="prompts of 3,000",
    prompt_tokens=3000,
    output_tokens=300,
)
APPLIED = ["--plan-output-tokens=300", "--plan-prompt-tokens=3000"]


@contextlib.asynccontextmanager
async def planned_worker(server: ApiServer, namespace: str) -> AsyncIterator[Engine]:
    """A ready pod of the StatefulSet, whose worker has planned."""
    engine = Engine("m", 0.0)
    engine.plan = PLAN
    async with worker_pod(server, namespace, engine):
        yield engine


async def settle(server: ApiServer, namespace: str) -> None:
    """Say what Kubernetes' controllers, which are not here, would once all is rolled out."""
    for kind, name, more in (
        ("statefulsets", "llama-worker", {}),
        ("deployments", "llama-router", {"readyReplicas": 1, "availableReplicas": 1}),
    ):
        where = path(namespace, kind, name)
        generation = (await server.get(where))["metadata"]["generation"]
        status = {"replicas": 1, "updatedReplicas": 1, "observedGeneration": generation} | more
        answer = await server.patch(f"{where}/status", {"status": status})
        assert answer["kind"] != "Status", answer


async def plan_args(server: ApiServer, namespace: str) -> list[str]:
    found = await server.get(path(namespace, "statefulsets", "llama-worker"))
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return sorted(arg for arg in container["args"] if arg.startswith("--plan-"))


async def told(server: ApiServer, namespace: str, operator: Operator, field: str) -> Json:
    """Wait until the plan in the status has a field, and return the status."""

    async def is_told() -> bool:
        status = (await server.get(resource(namespace))).get("status", {})
        return field in status.get("plan", {})

    await until(is_told, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
    status: Json = (await server.get(resource(namespace)))["status"]
    return status


async def test_what_the_workers_planned_is_told_beside_the_layouts(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "planned")
    async with operated(apiserver, "planned", tmp_path) as (_, operator):
        await deploy(apiserver, "planned", SPEC | {"accelerator": {"count": 2, "product": "L4"}})
        await converged(apiserver, "planned", operator)
        async with planned_worker(apiserver, "planned"):
            status = await told(apiserver, "planned", operator, "reason")
        assert status["layouts"] == {"prefill": "T2", "decode": "T2"}
        assert status["plan"] == {
            "prefill": "T2",
            "decode": "T2",
            "predictedTokensPerSecond": 400,
            "baselineTokensPerSecond": 400,
            "gainPercent": 0,
            "promptTokens": 1000,
            "outputTokens": 250,
            "reason": PLAN.reason,
            "rejected": [],
        }


async def test_a_proposal_is_one_event_and_waits_for_a_person(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "asked")
    async with contextlib.AsyncExitStack() as stack:
        async with operated(apiserver, "asked", tmp_path) as (_, operator):
            await deploy(apiserver, "asked", SPEC)
            await converged(apiserver, "asked", operator)
            engine = await stack.enter_async_context(planned_worker(apiserver, "asked"))
            await settle(apiserver, "asked")
            await told(apiserver, "asked", operator, "reason")
            engine.plan = dataclasses.replace(PLAN, proposed=PROPOSED)
            status = await told(apiserver, "asked", operator, "proposed")
            assert status["plan"]["proposed"]["promptTokens"] == 3000
        async with operated(apiserver, "asked", tmp_path) as (_, operator):  # another operator
            engine.running = 3  # is heard of, and so is what is proposed

            async def is_heard() -> bool:
                measured = (await apiserver.get(resource("asked")))["status"].get("measured", {})
                return bool(measured.get("runningRequests") == 3)

            await until(is_heard, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
            (event,) = await events(apiserver, "asked", "PlanProposed")
            assert "P2→T2" in event["message"]
            assert "kubectl patch" in event["message"]
            assert await plan_args(apiserver, "asked") == []
            planning = {"promptTokens": 3000, "outputTokens": 300}  # as the Event says
            await apiserver.patch(resource("asked"), {"spec": {"planning": planning}})
            await converged(apiserver, "asked", operator)
            assert await plan_args(apiserver, "asked") == APPLIED


async def test_with_automatic_approval_a_proposal_is_applied_once_and_survives_the_operator(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "trusted")
    workers = path("trusted", "statefulsets", "llama-worker")
    spec = SPEC | {"planning": {"approval": "Automatic"}}
    async with contextlib.AsyncExitStack() as stack:
        async with operated(apiserver, "trusted", tmp_path) as (_, operator):
            await deploy(apiserver, "trusted", spec)
            await converged(apiserver, "trusted", operator)
            engine = await stack.enter_async_context(planned_worker(apiserver, "trusted"))
            engine.plan = dataclasses.replace(PLAN, proposed=PROPOSED)
            await told(apiserver, "trusted", operator, "proposed")
            assert await plan_args(apiserver, "trusted") == [], "workers are still being made"
            await settle(apiserver, "trusted")
            status = await told(apiserver, "trusted", operator, "applied")
            assert status["plan"]["applied"] == {
                "promptTokens": 3000,
                "outputTokens": 300,
                "insteadOf": "-/-",
            }
            assert await plan_args(apiserver, "trusted") == APPLIED
            generation = (await apiserver.get(workers))["metadata"]["generation"]
            operator.kill()
        engine.plan = PLAN  # the new worker, for which nothing is better
        await settle(apiserver, "trusted")
        async with operated(apiserver, "trusted", tmp_path) as (_, operator):
            engine.running = 5

            async def is_heard() -> bool:
                status = (await apiserver.get(resource("trusted")))["status"]
                return bool(
                    status.get("measured", {}).get("runningRequests") == 5
                    and "proposed" not in status["plan"]
                )

            await until(is_heard, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
            assert await plan_args(apiserver, "trusted") == APPLIED
            assert (await apiserver.get(workers))["metadata"]["generation"] == generation
            assert len(await events(apiserver, "trusted", "PlanApplied")) <= 1
            await apiserver.patch(resource("trusted"), {"spec": {"planning": {"promptTokens": 7}}})
            await converged(apiserver, "trusted", operator)
            assert await plan_args(apiserver, "trusted") == ["--plan-prompt-tokens=7"]
            assert PLANNED_FOR not in (await apiserver.get(workers))["metadata"]["annotations"]
