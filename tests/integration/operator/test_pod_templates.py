"""Pod templates of users on a real kube-apiserver: taken and merged as it does, or refused."""

import copy
import json
import zlib
from pathlib import Path

import pytest

from seesaw_operator.api import owned
from seesaw_operator.api.pod_template import PodSpec
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import Owner
from seesaw_operator.objects.merging import MERGE_KEYS
from seesaw_operator.settings import Images
from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.operators import Operator
from support.control_plane.processes import until
from support.control_plane.resources import (
    SPEC,
    conditions,
    converged,
    deploy,
    make_namespace,
    operated,
    path,
    resource,
    told,
)
from support.pod_templates.samples import FOR_ENGINE, FOR_ROUTER
from support.resource_status.built import built

FULL = SPEC | {"engine": {"podTemplate": FOR_ENGINE}, "router": {"podTemplate": FOR_ROUTER}}
STRATEGIC = "application/strategic-merge-patch+json"
CORE = "io.k8s.api.core.v1"


def template_of(found: dict[str, Json], name: str) -> Json:
    template: Json = found[name]["spec"]["template"]
    return template


async def test_everything_that_may_be_added_reaches_the_pods(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "added")
    async with operated(apiserver, "added", tmp_path) as (_, operator):
        made = await deploy(apiserver, "added", FULL)
        assert made["kind"] == "SeesawDeployment", made
        found = await converged(apiserver, "added", operator)
        accepted = (await conditions(apiserver, "added"))["Accepted"]
        assert accepted["status"] == "True", accepted
    for name, given in (
        ("statefulsets/llama-worker", FOR_ENGINE),
        ("deployments/llama-router", FOR_ROUTER),
    ):
        template = template_of(found, name)
        assert given["metadata"]["labels"].items() <= template["metadata"]["labels"].items()
        assert given["metadata"]["annotations"] == template["metadata"]["annotations"]
        assert given["spec"].keys() <= template["spec"].keys()
        assert [c["name"] for c in template["spec"]["initContainers"]] == ["fetch", "proxy"]
        ours, theirs = template["spec"]["containers"]
        assert theirs["name"] == "logs"
        assert {"name": "NCCL_DEBUG", "value": "INFO"} in ours["env"]
        assert ours["resources"]["limits"]["ephemeral-storage"] == "20Gi"


async def test_a_template_that_is_changed_or_dropped_changes_the_pods(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "dropped")
    name = "statefulsets/llama-worker"
    async with operated(apiserver, "dropped", tmp_path) as (_, operator):
        await deploy(apiserver, "dropped", SPEC)
        bare = template_of(await converged(apiserver, "dropped", operator), name)
        user = {"spec": {"securityContext": {"runAsUser": None, "runAsGroup": 7}}}
        spec = SPEC | {"engine": {"podTemplate": user}}
        body = await apiserver.get(resource("dropped"))
        answer = await apiserver.ask("PUT", resource("dropped"), body | {"spec": spec})
        assert answer["kind"] == "SeesawDeployment", answer
        template = template_of(await converged(apiserver, "dropped", operator), name)
        assert template["spec"]["securityContext"]["runAsGroup"] == 7
        assert "runAsUser" not in template["spec"]["securityContext"]
        await apiserver.patch(resource("dropped"), {"spec": {"engine": {"podTemplate": None}}})
        assert template_of(await converged(apiserver, "dropped", operator), name) == bare


def objects_of(spec: Json, namespace: str) -> dict[str, Json]:
    images = Images(worker="w:1", worker_cpu="c:1", router="r:1", pull_secrets=("ours",))
    owner = Owner(name="llama", namespace=namespace, uid="1")
    made = built(Spec.model_validate(spec), owner, images)
    for each in made:
        each["metadata"].pop("ownerReferences")
    return {each["kind"]: each for each in made}


@pytest.mark.parametrize(
    ("kind", "kinds", "component", "given"),
    [
        ("StatefulSet", "statefulsets", "engine", FOR_ENGINE),
        ("Deployment", "deployments", "router", FOR_ROUTER),
    ],
)
async def test_merging_is_what_the_apiserver_makes_of_the_same_patch(
    kind: str, kinds: str, component: str, given: Json, apiserver: ApiServer
) -> None:
    namespace = f"merged-{kinds}"
    await make_namespace(apiserver, namespace)
    bare, full = (objects_of(spec, namespace)[kind] for spec in (SPEC, FULL))
    if "ephemeral-storage" in given["spec"]["containers"][0]["resources"].get("limits", {}):
        container_of(bare)["resources"]["requests"].pop("ephemeral-storage", None)
    where = path(namespace, kinds)
    made = await apiserver.create(where, bare)
    assert made["kind"] == kind, made
    patch = copy.deepcopy(given)
    ours = container_of(bare)["name"]
    patch["spec"]["containers"][0]["name"] = ours
    one = f"{where}/{bare['metadata']['name']}?dryRun=All"
    theirs = await apiserver.ask("PATCH", one, {"spec": {"template": patch}}, kind=STRATEGIC)
    merged = await apiserver.ask("PUT", one, full)
    assert theirs["kind"] == merged["kind"] == kind, (theirs, merged)
    assert in_any_order(merged["spec"]["template"]) == in_any_order(theirs["spec"]["template"])


def container_of(body: Json) -> Json:
    container: Json = body["spec"]["template"]["spec"]["containers"][0]
    return container


def in_any_order(value: object) -> object:
    """The patch puts what is new before what was there, which means nothing in these lists."""
    if isinstance(value, dict):
        return {key: in_any_order(below) for key, below in value.items()}
    if isinstance(value, list):
        return sorted((in_any_order(each) for each in value), key=json.dumps)
    return value


async def test_the_tables_are_those_of_the_apiserver(apiserver: ApiServer) -> None:
    known = (await apiserver.get("/openapi/v2"))["definitions"]
    pod = known[f"{CORE}.PodSpec"]["properties"]
    free = {field.alias for field in PodSpec.model_fields.values()}
    assert free | set(owned.OF_POD) == set(pod)
    container = known[f"{CORE}.Container"]["properties"]
    ours = {"name", "ports", *owned.OF_CONTAINER, *owned.FREE_IN_CONTAINER}
    assert ours == set(container)
    kinds = {"array": {"objects", "strings"}, None: {"object"}}
    for name, field in (*owned.OF_POD.items(), *owned.OF_CONTAINER.items()):
        kind = (pod | container)[name].get("type")
        assert field.kind in kinds.get(kind, {kind}), name
    keys = {
        name: each["x-kubernetes-patch-merge-key"]
        for name, each in (pod | container).items()
        if "x-kubernetes-patch-merge-key" in each and name not in owned.OF_POD
    }
    assert keys == MERGE_KEYS


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"ports": [{"containerPort": 8000}], "name": "x", "image": "x:1"},
            ".spec.containers[x].ports: 8000 is a port of ours",
        ),
        (
            {"name": "engine", "resources": {"limits": {"nvidia.com/gpu": 4}}},
            ".spec.containers[engine].resources.limits: nvidia.com/gpu is made of accelerator",
        ),
        (
            {"name": "engine", "anything": 1},
            ".spec.containers[engine].anything: ",
        ),
    ],
)
async def test_what_only_the_operator_can_see_is_refused_in_the_status_and_nothing_is_made(
    more: Json, says: str, apiserver: ApiServer, tmp_path: Path
) -> None:
    namespace = f"unseen-{zlib.crc32(says.encode())}"
    await make_namespace(apiserver, namespace)
    async with operated(apiserver, namespace, tmp_path) as (_, operator):
        spec = SPEC | {"engine": {"podTemplate": {"spec": {"containers": [more]}}}}
        made = await deploy(apiserver, namespace, spec)
        assert made["kind"] == "SeesawDeployment", made
        words = f"spec.engine.podTemplate{says}"
        await told(apiserver, namespace, operator, "Accepted", words, reason="InvalidSpec")
        found = await apiserver.get(path(namespace, "statefulsets"))
        assert found["items"] == []
        await apiserver.ask("DELETE", resource(namespace))


async def test_what_only_the_apiserver_knows_is_refused_in_its_words(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "unknown")
    async with operated(apiserver, "unknown", tmp_path) as (_, operator):
        added = {"name": "x", "image": "x:1", "livenesProbe": {}}
        await deploy(
            apiserver,
            "unknown",
            SPEC | {"engine": {"podTemplate": {"spec": {"containers": [added]}}}},
        )
        await told(apiserver, "unknown", operator, "Accepted", "livenesProbe", reason="NotApplied")


async def test_a_profile_reaches_the_pods_of_the_resources_that_name_it(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "with-profile")
    file = tmp_path / "profiles.json"
    flag = f"--profiles={file}"
    shared = {"engine": {"podTemplate": FOR_ENGINE}, "router": {"podTemplate": FOR_ROUTER}}
    file.write_text(json.dumps({"other": shared}))
    async with operated(apiserver, "with-profile", tmp_path, flag) as (_, operator):
        await deploy(apiserver, "with-profile", SPEC | {"profile": "big"})
        words = ("spec.profile", "'big'", "other")
        await told(apiserver, "with-profile", operator, "Accepted", *words, reason="InvalidSpec")
        assert (await apiserver.get(path("with-profile", "statefulsets")))["items"] == []
    file.write_text(json.dumps({"big": shared}))
    async with operated(apiserver, "with-profile", tmp_path, flag) as (_, operator):
        await told(apiserver, "with-profile", operator, "Accepted", status="True")
        found = await converged(apiserver, "with-profile", operator)
    for name, given in (
        ("statefulsets/llama-worker", FOR_ENGINE),
        ("deployments/llama-router", FOR_ROUTER),
    ):
        template = template_of(found, name)
        assert given["metadata"]["labels"].items() <= template["metadata"]["labels"].items()
        assert given["spec"].keys() <= template["spec"].keys()
    file.write_text(json.dumps({"big": {"engine": {"podTemplate": {"spec": {"hostIPC": True}}}}}))
    async with operated(apiserver, "with-profile", tmp_path, flag) as (_, operator):
        await until(lambda: has_ended(operator), 30, operator.log.read_text)
        last = operator.log.read_text().splitlines()[-1]
        assert f"{flag}: big.engine.podTemplate.spec.hostIPC" in last


async def has_ended(operator: Operator) -> bool:
    return not operator.is_alive
