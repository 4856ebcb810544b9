"""The operator on a real kube-apiserver: what it says of what keeps it or pods from going on."""

from pathlib import Path

from control_plane.apiserver import ApiServer
from control_plane.processes import until
from control_plane.resources import (
    CONVERGE_S,
    SPEC,
    converged,
    deploy,
    make_namespace,
    objects,
    operated,
    path,
    put_pod,
    set_container_state,
    told,
)


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
            events = await apiserver.get("/api/v1/namespaces/sick/events")
            return any(
                e["reason"] == "ImagePullFailed" and e["type"] == "Warning" for e in events["items"]
            )

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
        nowhere = {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.nope"}}}
        await deploy(apiserver, "refused", SPEC | {"engine": {"env": [nowhere]}})
        await told(apiserver, "refused", operator, "Accepted", "status.nope", reason="NotApplied")


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
        await told(apiserver, "odd", operator, "Degraded", "it broke: 🚀")
