"""The operator on a real kube-apiserver: what it says of what keeps it or pods from going on."""

from pathlib import Path

import pytest

from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.processes import until
from support.control_plane.resources import (
    CONVERGE_S,
    SPEC,
    compared,
    conditions,
    converged,
    deploy,
    events,
    make_namespace,
    objects,
    operated,
    path,
    put_event,
    put_pod,
    resource,
    set_container_state,
    set_pod_status,
    told,
)

NO_TERMS: Json = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}
# What the definition takes, and only Kubernetes refuses.
NOWHERE: Json = {"podTemplate": {"spec": {"affinity": {"nodeAffinity": NO_TERMS}}}}


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

        await told(apiserver, "sick", operator, "Ready", "engine.image", reason="ImagePullFailed")

        async def is_recorded() -> bool:
            recorded = await events(apiserver, "sick", "ImagePullFailed")
            return any(event["type"] == "Warning" for event in recorded)

        await until(is_recorded, CONVERGE_S, lambda: operator.log.read_text()[-3000:])


async def test_somebody_elses_object_is_left_alone_and_told(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "taken")
    port = {"port": 80, "targetPort": 80, "protocol": "TCP"}
    theirs = {"metadata": {"name": "llama"}, "spec": {"ports": [port], "selector": {"app": "x"}}}
    await apiserver.create(path("taken", "services"), theirs)
    async with operated(apiserver, "taken", tmp_path) as (_, operator):
        await deploy(apiserver, "taken", SPEC)

        await told(apiserver, "taken", operator, "Accepted", "Service llama", status="False")
        found = await apiserver.get(path("taken", "services", "llama"))
        assert found["spec"]["selector"] == {"app": "x"}
        assert "ownerReferences" not in found["metadata"]
        assert await objects(apiserver, "taken") == {}  # no device is taken for nothing
        await apiserver.ask("DELETE", path("taken", "services", "llama"))
        await told(apiserver, "taken", operator, "Accepted", status="True")


async def test_what_the_apiserver_does_not_take_is_told_in_its_words(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "refused")
    async with operated(apiserver, "refused", tmp_path) as (_, operator):
        await deploy(apiserver, "refused", SPEC | {"engine": NOWHERE})
        await told(
            apiserver, "refused", operator, "Accepted", "nodeSelectorTerms", reason="NotApplied"
        )


async def test_pods_that_are_refused_are_told_with_the_words_of_their_controllers_event(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "quota")
    async with operated(apiserver, "quota", tmp_path) as (_, operator):
        await deploy(apiserver, "quota", SPEC)
        found = await converged(apiserver, "quota", operator)
        said = "create Pod llama-worker-0 failed error: exceeded quota: gpus, used: 8, limited: 8"
        workers = {"kind": "StatefulSet"} | found["statefulsets/llama-worker"]
        await put_event(apiserver, workers, "FailedCreate", said)
        await told(apiserver, "quota", operator, "Degraded", "limited: 8", reason="PodsRefused")


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
        for reason in ("NotApplied", "ApiUnavailable"):
            assert await events(apiserver, "busy", reason) == [], reason


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
        ended = {"exitCode": 1, "message": f"it broke: {odd.split()[1] * 900}"}
        await set_container_state(apiserver, "odd", {"terminated": ended})
        await told(apiserver, "odd", operator, "Degraded", "it broke: 🚀")
        (event,) = await eventually(apiserver, "odd", "Crashing")
        assert "it broke: 🚀" in event["message"]


async def eventually(apiserver: ApiServer, namespace: str, reason: str) -> list[Json]:
    """Wait until something is recorded for that reason."""

    async def is_recorded() -> bool:
        return bool(await events(apiserver, namespace, reason))

    await until(is_recorded, CONVERGE_S, lambda: f"no event {reason}")
    return await events(apiserver, namespace, reason)


async def test_an_apiserver_that_stays_in_trouble_is_told_until_it_is_over(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "down")
    async with operated(apiserver, "down", tmp_path) as (proxy, operator):

        def refuse(call: tuple[str, str]) -> int | None:
            return 500 if call[0] == "PATCH" and "/statefulsets/" in call[1] else None

        proxy.refuse = refuse
        await deploy(apiserver, "down", SPEC)
        said = "StatefulSet llama-worker: by the test"
        await told(
            apiserver, "down", operator, "Reconciling", said, reason="ApiUnavailable", status="True"
        )
        await told(apiserver, "down", operator, "Ready", said, status="False")
        (event,) = await eventually(apiserver, "down", "ApiUnavailable")
        assert said in event["message"]
        proxy.refuse = lambda _: None
        await told(apiserver, "down", operator, "Reconciling", reason="Scaling")
        await told(apiserver, "down", operator, "Accepted", status="True")


MANY = {"data": 45}
LONG: dict[str, Json] = {
    "more than etcd takes": {
        "accelerator": {"count": 45},
        "parallelism": {"prefill": MANY, "decode": MANY},
        "engine": {"env": [{"name": f"A{i}", "value": "x" * 4000} for i in range(10)]},
    },
    "more than the apiserver reads": {
        "accelerator": {"count": 90},
        "parallelism": {"prefill": {"data": 90}, "decode": {"data": 90}},
        "engine": {"env": [{"name": f"A{i}", "value": "x" * 4000} for i in range(10)]},
    },
}


@pytest.mark.parametrize("name", LONG)
async def test_objects_that_are_too_large_are_refused_and_told(
    apiserver: ApiServer, tmp_path: Path, name: str
) -> None:
    namespace = name.replace(" ", "-")
    await make_namespace(apiserver, namespace)
    async with operated(apiserver, namespace, tmp_path) as (_, operator):
        await deploy(apiserver, namespace, SPEC | LONG[name])
        words = ("StatefulSet llama-worker", "larger than Kubernetes can store")
        await told(apiserver, namespace, operator, "Accepted", *words, reason="NotApplied")


async def test_a_resource_that_leaves_no_room_for_a_status_is_told_by_an_event(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    def spec(num_bytes: int) -> Json:
        volumes = [
            {"name": f"v{i}", "csi": {"driver": "d.x", "volumeAttributes": {"a": "x" * num_bytes}}}
            for i in range(90)
        ]
        engine, router = (
            {"podTemplate": {"spec": {"volumes": v}}} for v in (volumes[::2], volumes[1::2])
        )
        return SPEC | {"engine": engine, "router": router}

    await make_namespace(apiserver, "fits")
    low, high = 16_000, 18_000
    while high - low > 1:  # the largest that can be stored, 90 bytes more or less
        middle = (low + high) // 2
        made = await deploy(apiserver, "fits", spec(middle))
        fits = made["kind"] == "SeesawDeployment"
        low, high = (middle, high) if fits else (low, middle)
        await apiserver.ask("DELETE", resource("fits"))
    await make_namespace(apiserver, "full")
    async with operated(apiserver, "full", tmp_path):
        made = await deploy(apiserver, "full", spec(low))
        assert made["kind"] == "SeesawDeployment", made
        (event,) = await eventually(apiserver, "full", "StatusNotWritten")
        assert "larger than Kubernetes can store" in event["message"]


async def test_a_refusal_of_any_length_is_told_with_its_begin_and_its_end(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "long")
    async with operated(apiserver, "long", tmp_path) as (_, operator):
        mount = {"name": "n" * 40_000, "mountPath": "/x"}
        added = {"containers": [{"name": "engine", "volumeMounts": [mount]}]}
        await deploy(apiserver, "long", SPEC | {"engine": {"podTemplate": {"spec": added}}})
        await told(apiserver, "long", operator, "Accepted", "volumeMounts", status="False")


async def test_while_a_spec_is_refused_the_pods_are_told_of_as_they_are(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "frozen")
    async with operated(apiserver, "frozen", tmp_path) as (_, operator):
        await deploy(apiserver, "frozen", SPEC)
        found = await converged(apiserver, "frozen", operator)
        template = found["statefulsets/llama-worker"]["spec"]["template"]
        stranger = await put_pod(apiserver, "frozen", template, owned=False)
        serves = {"conditions": [{"type": "Ready", "status": "True"}]}
        await set_pod_status(apiserver, "frozen", **serves)
        await compared(operator, 2)
        await told(apiserver, "frozen", operator, "WorkersReady", status="False")
        where = f"/api/v1/namespaces/frozen/pods/{stranger['metadata']['name']}"
        await apiserver.ask("DELETE", f"{where}?gracePeriodSeconds=0")
        await put_pod(apiserver, "frozen", template)
        await set_pod_status(apiserver, "frozen", **serves)
        await told(apiserver, "frozen", operator, "WorkersReady", status="True")

        await apiserver.patch(resource("frozen"), {"spec": {"engine": NOWHERE}})
        await told(apiserver, "frozen", operator, "Accepted", status="False")
        await told(apiserver, "frozen", operator, "WorkersReady", status="True")
        await apiserver.ask("DELETE", f"{where}?gracePeriodSeconds=0")
        await told(apiserver, "frozen", operator, "WorkersReady", status="False")
        now = await conditions(apiserver, "frozen")
        assert {c["observedGeneration"] for c in now.values()} == {2}


async def test_what_was_recorded_about_another_pod_of_that_name_is_not_told(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "stale")
    async with operated(apiserver, "stale", tmp_path) as (proxy, operator):
        await deploy(apiserver, "stale", SPEC)
        found = await converged(apiserver, "stale", operator)
        template = found["statefulsets/llama-worker"]["spec"]["template"]
        pod = await put_pod(apiserver, "stale", template)
        earlier = pod | {"metadata": pod["metadata"] | {"uid": "another"}}
        await put_event(apiserver, earlier, "FailedMount", "no volume, long ago")
        await put_event(apiserver, pod, "FailedScheduling", "0/3 nodes are available")
        await set_pod_status(apiserver, "stale", startTime="2026-01-01T00:00:00Z")
        await set_container_state(apiserver, "stale", {"waiting": {"reason": "ContainerCreating"}})
        uid = pod["metadata"]["uid"]

        async def has_looked() -> bool:
            return any("/events?" in url and uid in url for _, url in proxy.calls)

        await until(has_looked, CONVERGE_S, lambda: operator.log.read_text()[-3000:])
        await compared(operator, 1)
        await told(apiserver, "stale", operator, "Degraded", status="False")
        await put_event(apiserver, pod, "FailedMount", "no volume today")
        await told(apiserver, "stale", operator, "Degraded", "no volume today", status="True")
