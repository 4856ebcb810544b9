"""What the apiserver itself refuses, and what a user reads then."""

import asyncio
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from control_plane.apiserver import ApiServer, Json
from control_plane.resources import path
from pod_templates.generated import ONE_FIELD, TEMPLATES
from seesaw_core.errors import InputError
from seesaw_operator.api import engine, owned
from seesaw_operator.api.crd import definition
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import Owner
from seesaw_operator.objects.merging import as_given
from seesaw_operator.overlays import refusals
from seesaw_operator.plan import plan as objects_of
from seesaw_operator.profiles import profiles_of
from seesaw_operator.settings import Images, Timing
from seesaw_worker.flags import FLAGS
from seesaw_worker.vllm_flags import BY_FLAG

FOLDER = Path(__file__).parents[3] / "manifests/examples"
EXAMPLES: dict[str, Json] = {
    path.stem: found
    for path in FOLDER.glob("*.yaml")
    for found in yaml.safe_load_all(path.read_text())
    if found["kind"] == "SeesawDeployment"
}
SPEC: Json = {"model": {"uri": "org/model"}}
PAIR = {"prefill": {"pipeline": 2}, "decode": {"tensor": 2}}
TWO: Json = {"accelerator": {"count": 2}}
OF_KIND: Json = {
    "boolean": True,
    "integer": 1,
    "object": {},
    "objects": [{"name": "x"}],
    "string": "x",
}


def added(container: str, component: str = "engine", **more: Any) -> Json:
    """A resource whose pods get that much more in one of their containers."""
    return of_pod("containers", [{"name": container} | more], component)


def of_pod(field: str, value: Any, component: str = "engine") -> Json:
    return {component: {"podTemplate": {"spec": {field: value}}}}


# A resource that breaks each rule, by the rule's own message.
BREAKING: dict[str, tuple[str, Json]] = {
    "prefill.data and decode.data must be equal": (
        "llama",
        {
            "accelerator": {"count": 4},
            "parallelism": {
                "prefill": {"pipeline": 2, "data": 1},
                "decode": {"tensor": 2, "data": 2},
            },
        },
    ),
    "prefill and decode run on the same devices": (
        "llama",
        TWO | {"parallelism": {"prefill": {"pipeline": 4}, "decode": {"tensor": 2}}},
    ),
    "give parallelism.prefill and parallelism.decode together": (
        "llama",
        TWO | {"parallelism": {"decode": {"tensor": 2}}},
    ),
    "parallelism.mode Manual takes": ("llama", TWO | {"parallelism": {"mode": "Manual"}}),
    "parallelism.mode Auto chooses": ("llama", TWO | {"parallelism": PAIR | {"mode": "Auto"}}),
    "parallelism must use all devices": ("llama", {"parallelism": PAIR}),
    "engine.extraArgs must not set": (
        "llama",
        {"engine": {"extraArgs": ["--dtype=float16", "--port=9000"]}},
    ),
    "metadata.name must begin with a letter": ("3b", {}),
    "engine.resources.memory must be larger than kvBuffer.size": (
        "llama",
        {"kvBuffer": {"size": "8Gi"}, "engine": {"resources": {"memory": "8192Mi"}}},
    ),
    "model.uri must name its folder without": ("llama", {"model": {"uri": "pvc://c/../../etc"}}),
    "accelerator.resourceName must be": (
        "llama",
        {"accelerator": {"resourceName": "requests.kubernetes.io/gpu"}},
    ),
    "model.uri: the name of a claim": ("llama", {"model": {"uri": f"pvc://{'c' * 254}/x"}}),
    **{
        f"{component}.extraArgs must begin with a flag": (
            "llama",
            {component: {"extraArgs": ["other/model", "--x=1"]}},
        )
        for component in ("engine", "router")
    },
    "kvBuffer.size must be at least": ("llama", {"kvBuffer": {"size": 4}}),
    "waves.maxWait must be above 0": ("llama", {"waves": {"maxWait": "0s"}}),
    "engine.resources.memory must be at most 1Ei": (
        "llama",
        {"engine": {"resources": {"memory": "1.5Ei"}}},
    ),
    "engine.nodeSelector takes labels": ("llama", {"engine": {"nodeSelector": {"a b": "c"}}}),
    "give exactly one of secretKeyRef, configMapKeyRef and fieldRef": (
        "llama",
        {"engine": {"env": [{"name": "A", "valueFrom": {}}]}},
    ),
    "give value or valueFrom, not both": (
        "llama",
        {
            "engine": {
                "env": [
                    {
                        "name": "A",
                        "value": "1",
                        "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}},
                    }
                ]
            }
        },
    ),
    "a toleration without key tolerates every taint": (
        "llama",
        {"engine": {"tolerations": [{"value": "x"}]}},
    ),
    "operator Exists takes no value": (
        "llama",
        {"engine": {"tolerations": [{"key": "gpu", "operator": "Exists", "value": "x"}]}},
    ),
    "tolerationSeconds goes with effect NoExecute": (
        "llama",
        {"engine": {"tolerations": [{"key": "gpu", "tolerationSeconds": 5}]}},
    ),
    "give tolerations in engine.tolerations or in engine.podTemplate.spec": (
        "llama",
        {
            "engine": {
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "podTemplate": {"spec": {"tolerations": [{"key": "x", "operator": "Exists"}]}},
            }
        },
    ),
    **{
        f"podTemplate.spec.{field} cannot be set": ("llama", of_pod(field, OF_KIND[each.kind]))
        for field, each in owned.OF_POD.items()
    },
    **{
        f"{where}.{part}: {begin}": ("llama", {"router": above({part: {key: "x"}})})
        for where, above in (
            ("podTemplate.metadata", lambda found: {"podTemplate": {"metadata": found}}),
            ("router.service", lambda found: {"service": found}),
        )
        for part in ("labels", "annotations")
        for begin, key in (
            ("a key looks like", "a b"),
            ("app.kubernetes.io/component, ", "app.kubernetes.io/component"),
        )
    },
    **{
        f"podTemplate.spec.containers: the container {name} {begin}": (
            "llama",
            added(name, component, **more),
        )
        for component, name in (("engine", "engine"), ("router", "router"))
        for begin, more in (
            ("takes only", {"image": "x:1"}),
            ("takes its cpu", {"resources": {"limits": {"memory": 1}}}),
        )
    },
    "podTemplate.spec.containers: the container engine takes HOME": (
        "llama",
        added("engine", env=[{"name": "HOME", "value": "/"}]),
    ),
    "podTemplate.spec.containers: the container engine has volumes of ours at": (
        "llama",
        added("engine", volumeMounts=[{"name": "x", "mountPath": "/dev//shm/"}]),
    ),
    "podTemplate.spec.containers: a container that is not named engine": ("llama", added("engin")),
    "podTemplate.spec.containers: a container that is not named router": (
        "llama",
        added("engine", "router"),
    ),
    "podTemplate.spec.containers: such a name as engine-0": (
        "llama",
        added("engine-3", image="x:1"),
    ),
    **{
        f"podTemplate.spec.initContainers: {name} is the name": (
            "llama",
            of_pod("initContainers", [{"name": name, "image": "x:1"}], name),
        )
        for name in ("engine", "router")
    },
    "podTemplate.spec.initContainers: each needs an image": (
        "llama",
        of_pod("initContainers", [{"name": "fetch"}]),
    ),
    "podTemplate.spec.nodeSelector: a key looks like": (
        "llama",
        of_pod("nodeSelector", {"a/b/c": "x"}),
    ),
    "podTemplate.spec.volumes: shm, scratch and model are": (
        "llama",
        of_pod("volumes", [{"name": "scratch", "emptyDir": {}}]),
    ),
    **{
        f"router.service.{field} goes with": (
            "llama",
            {"router": {"service": {"type": kind, field: value}}},
        )
        for field, kind, value in (
            ("loadBalancerClass", "NodePort", "example.com/nlb"),
            ("loadBalancerSourceRanges", "ClusterIP", ["10.0.0.0/8"]),
            ("externalTrafficPolicy", "ClusterIP", "Local"),
            ("nodePort", "ClusterIP", 30080),
        )
    },
    "router.resources.memory must be at least": (
        "llama",
        {"router": {"resources": {"memory": "63Mi"}}},
    ),
    "router.extraArgs must not set": (
        "llama",
        {"router": {"extraArgs": ["--max-queued=9", "--drain-timeout-s=1"]}},
    ),
    "podTemplate.spec.automountServiceAccountToken must not be false": (
        "llama",
        of_pod("automountServiceAccountToken", False, "router"),
    ),
    "metadata.name must have at most 40 characters": ("x" * 41, {}),
    "metadata.name must not contain dots": ("a.b", {}),
}

# Without what Kubernetes itself refuses once it is applied: a key that is none, and no image.
OF_TEMPLATES = [begin for begin in BREAKING if begin.startswith("podTemplate")]

# Values out of bounds, and what the answer must name.
OUT_OF_BOUNDS: list[tuple[Json, list[str]]] = [
    ({"model": {"uri": "not a uri"}}, ["spec.model.uri", "not a uri"]),
    ({"model": {}}, ["spec.model.uri", "Required"]),
    ({"replicas": -1}, ["spec.replicas", "greater than or equal to 0"]),
    ({"accelerator": {"count": 0}}, ["spec.accelerator.count"]),
    ({"kvBuffer": {"size": "lots"}}, ["spec.kvBuffer.size", "lots"]),
    ({"kvBuffer": {"size": "1.5"}}, ["spec.kvBuffer.size"]),
    ({"model": {"uri": "org/model\n--port=1"}}, ["spec.model.uri"]),
    ({"model": {"uri": "x", "name": "-x"}}, ["spec.model.name"]),
    ({"model": {"uri": "x", "name": "a\nb"}}, ["spec.model.name"]),
    ({"accelerator": {"resourceName": "memory"}}, ["spec.accelerator.resourceName"]),
    ({"accelerator": {"resourceName": "a..b/c"}}, ["spec.accelerator.resourceName"]),
    ({"engine": {"image": "my image"}}, ["spec.engine.image"]),
    ({"router": {"image": "img\n"}}, ["spec.router.image"]),
    ({"router": {"image": "img@sha256:abc"}}, ["spec.router.image"]),
    ({"engine": {"env": [{"name": "A B"}]}}, ["spec.engine.env[0].name"]),
    (
        {
            "engine": {
                "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "Bad_Name", "key": "k"}}}
                ]
            }
        },
        ["secretKeyRef.name"],
    ),
    ({"engine": {"nodeSelector": {"a": "b c"}}}, ["spec.engine.nodeSelector"]),
    ({"engine": {"tolerations": [{"key": "a b"}]}}, ["tolerations[0].key"]),
    ({"reshard": "sometimes"}, ["spec.reshard", '"Auto", "Always", "Never"']),
    ({"waves": {"maxWait": "soon"}}, ["spec.waves.maxWait", "soon"]),
    ({"parallelism": {"prefill": {"tensor": "two"}, "decode": {}}}, ["prefill.tensor", "integer"]),
    ({"parallelism": {"mode": "Sometimes"}}, ["spec.parallelism.mode", '"Auto", "Manual"']),
    ({"planning": {"approval": "Never"}}, ["planning.approval", '"Manual", "Automatic"']),
    ({"planning": {"promptTokens": 0}}, ["spec.planning.promptTokens"]),
    ({"accelerator": {"product": "-"}}, ["spec.accelerator.product"]),
    ({"router": {"service": {"type": "ExternalName"}}}, ["router.service.type", '"ClusterIP"']),
    (
        {"router": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["all"]}}},
        ["router.service.loadBalancerSourceRanges[0]"],
    ),
    ({"timing": {"drainSeconds": 0}}, ["spec.timing.drainSeconds"]),
    *(
        (
            {"engine": {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": wrong}}}]}},
            ["fieldRef.fieldPath"],
        )
        for wrong in ("spec.foo", "metadata.labels", "metadata.labels['bad key!']")
    ),
    *(
        (
            {"engine": {"env": [{"name": "A", "valueFrom": {each: {"name": "x", "key": wrong}}}]}},
            [f"{each}.key"],
        )
        for each in ("secretKeyRef", "configMapKeyRef")
        for wrong in (".", "..", "..a")
    ),
    *(({"engine": {"env": [{"name": wrong}]}}, ["env[0].name"]) for wrong in (".", "..", "A=B")),
    ({"engine": {"env": [{"name": "A", "value": "a\0b"}]}}, ["env[0].value"]),
    *(
        ({component: {"extraArgs": ["--x", wrong]}}, [f"spec.{component}.extraArgs[1]"])
        for component in ("engine", "router")
        for wrong in ("a\0b", "\0")
    ),
    *(
        (
            {"router": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": [wrong]}}},
            ["router.service.loadBalancerSourceRanges[0]"],
        )
        for wrong in ("999.1.1.1/99", "10.0.0.0/33", "::/129", "1::2::3/8", "10.0.0.0/8 ")
    ),
    ({"router": {"service": {"annotations": {"a": "\0"}}}}, ["router.service.annotations.a"]),
    *(
        ({component: {"image": wrong}}, [f"spec.{component}.image"])
        for component in ("engine", "router")
        for wrong in (
            *("a::b", "a@@b", "a:", "a/", "a//b", "img:tag:tag", "https://x/y", "a@sha256:123"),
            *("", " ", "a..b/c", "-a", "img@sha256:" + "A" * 64, "img:" + "t" * 129),
        )
    ),
    *(
        ({"kvBuffer": {"size": wrong}}, ["kvBuffer.size"])
        for wrong in (-1, 4.5, "1e99", "2Ei", "99999999Pi")
    ),
    *(
        ({component: {"resources": {"cpu": wrong}}}, [f"{component}.resources.cpu"])
        for component in ("engine", "router")
        for wrong in (0, -1, 0.5, 10**12, "0", "0.000", "0m", "9" * 24, "1e999999999")
    ),
    *(
        (added("engine", component, resources={part: {"x.y/z": wrong}}), [f"{part}.x.y/z"])
        for component, part in (("router", "limits"), ("engine", "requests"))
        for wrong in ("1e999999999", "1e19", "-1", "1e1000000", "1e-99", -1)
    ),
    *(
        (of_pod(field, [{"name": wrong}]), [f"podTemplate.spec.{field}[0].name"])
        for field in ("volumes", "resourceClaims")
        for wrong in ("a.b", "x" * 64)
    ),
    (of_pod("hostAliases", [{"ip": "bad"}]), ["hostAliases[0].ip"]),
    (added("engine", env=[{"name": "a=b"}]), ["env[0].name"]),
    *(
        (added("x", image="x:1", ports=[{"containerPort": 9, "name": wrong}]), ["ports[0].name"])
        for wrong in ("UP", "1234", "a--b", "-a", "")
    ),
    *(
        (of_pod(field, [{"name": "x", "image": wrong}]), [f"{field}[0].image"])
        for field in ("containers", "initContainers")
        for wrong in ("", " ", "a::b")
    ),
    *(
        (added("engine", volumeMounts=[{"name": "x", "mountPath": wrong}]), ["mountPath"])
        for wrong in ("/x\n", "/x\0")
    ),
    *(
        ({"accelerator": {"resourceName": wrong}}, ["accelerator.resourceName"])
        for wrong in ("mykubernetes.io/x", f"{'a' * 244}.y/z")
    ),
    *(
        ({"model": {"uri": wrong}}, ["spec.model.uri"])
        for wrong in ("/", "//", "org/--x", "org/.x", "org/a..b", "a--b/c", "org/x.")
    ),
    *(
        ({"waves": {"maxWait": wrong}}, ["spec.waves.maxWait"])
        for wrong in ("10", "1d", "10 s", "", "999999999h")
    ),
    ({"modle": {"uri": "org/x"}}, ["modle"]),
]


async def try_to_create(server: ApiServer, spec: Json, name: str = "llama") -> Json:
    body = {
        "apiVersion": "seesaw.dev/v1alpha1",
        "kind": "SeesawDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }
    where = "/apis/seesaw.dev/v1alpha1/namespaces/default/seesawdeployments"
    return await server.create(f"{where}?dryRun=All&fieldValidation=Strict", body)


def all_rules() -> dict[str, Json]:
    """The rules by their messages, wherever they are in the schema."""

    def below(value: Any) -> Iterator[Json]:
        if isinstance(value, dict):
            yield from value.get("x-kubernetes-validations", ())
            for part in value.values():
                yield from below(part)

    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return {rule["message"]: rule for rule in below(schema)}


def test_every_rule_is_broken_below() -> None:
    rules = all_rules()
    assert len(rules) == len(BREAKING)
    for message in rules:
        assert any(message.startswith(begin) for begin in BREAKING), message


@pytest.mark.parametrize("begin", BREAKING)
async def test_a_resource_that_breaks_a_rule_is_refused_in_its_words(
    begin: str, apiserver: ApiServer
) -> None:
    name, more = BREAKING[begin]
    (message,) = (m for m in all_rules() if m.startswith(begin))
    answer = await try_to_create(apiserver, SPEC | copy.deepcopy(more), name)
    assert answer["kind"] == "Status", answer
    assert message in answer["message"]
    causes = [c for c in answer["details"]["causes"] if message in c["message"]]
    assert {cause["reason"] for cause in causes} == {all_rules()[message]["reason"]}
    assert all(cause["field"] for cause in causes)


@pytest.mark.parametrize("begin", OF_TEMPLATES)
def test_what_was_stored_before_there_was_a_rule_is_refused_or_not_read(begin: str) -> None:
    spec = Spec.model_validate(SPEC | BREAKING[begin][1])
    given = [as_given(part.pod_template) for part in (spec.engine, spec.router)]
    assert refusals(spec) or not any(each.get("spec") or each.get("metadata") for each in given)


@pytest.mark.parametrize("begin", OF_TEMPLATES)
def test_a_profile_that_breaks_a_rule_is_refused(begin: str) -> None:
    parts = {part: BREAKING[begin][1].get(part, {}) for part in ("engine", "router")}
    with pytest.raises(InputError, match=r"^p"):
        profiles_of(json.dumps({"p": parts}))


def test_whatever_the_apiserver_refuses_of_a_template_is_refused_of_a_profile(
    apiserver: ApiServer,
) -> None:
    @settings(max_examples=300, deadline=None)
    @given(TEMPLATES | ONE_FIELD, TEMPLATES | ONE_FIELD)
    def check(engine: Json, router: Json) -> None:
        parts = {"engine": {"podTemplate": engine}, "router": {"podTemplate": router}}
        try:
            profiles_of(json.dumps({"p": parts}))
        except InputError:
            return
        answer = asyncio.run(try_to_create(apiserver, SPEC | copy.deepcopy(parts)))
        assert answer["kind"] == "SeesawDeployment", answer["message"]

    check()


@pytest.mark.parametrize(("more", "says"), OUT_OF_BOUNDS)
async def test_a_value_out_of_bounds_is_refused_by_name(
    more: Json, says: list[str], apiserver: ApiServer
) -> None:
    answer = await try_to_create(apiserver, SPEC | more)
    assert answer["kind"] == "Status", answer
    for part in says:
        assert part in answer["message"], answer["message"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--kv_buffer_gib=8"],
        ["-tp4"],
        ["-pp", "2"],
        ["--served-model-name=x"],
        ["--max_model_len", "9"],
        ["--config=/etc/x.yaml"],
        *(
            ["--dtype=float16", flag]
            for flag in (
                *("--kv-buf=8", "--resh=never", "--flush=3", "--drain=5", "--prefill-tensor=4"),
                *("--max-model=5", "--served-model=x", "--kv_buf", "--tensor-parallel", "--p"),
                *("--uds=/tmp/x", "--headless", "--nnodes", "-n2", "--node-rank", "-r1"),
                *(
                    "-dpl",
                    "-dp=2",
                    "-t",
                    "-pp2",
                    "--data-parallel-size-local=2",
                    "--ssl-keyfile=x",
                    "--model.x=y",
                    "--",
                ),
            )
        ),
    ],
    ids=str,
)
async def test_no_spelling_gets_a_flag_past_the_operator(
    flags: list[str], apiserver: ApiServer
) -> None:
    answer = await try_to_create(apiserver, SPEC | {"engine": {"extraArgs": flags}})
    assert "engine.extraArgs must not set" in answer.get("message", ""), answer


async def test_every_other_flag_of_the_worker_is_taken(apiserver: ApiServer) -> None:
    names = {*(f"--{n}".replace("_", "-") for n in BY_FLAG), *(each.name for each in FLAGS)}
    free = sorted(names - set(engine._OPERATORS) - {"--model-tag"})
    assert len(free) > 200
    for first in range(0, len(free), 128):
        spec = SPEC | {"engine": {"extraArgs": free[first : first + 128]}}
        answer = await try_to_create(apiserver, spec)
        assert answer["kind"] == "SeesawDeployment", answer


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ({"engine": {"resources": {"memory": "64GB"}}}, "64GB"),
        ({"engine": {"resources": {"cpu": 0.5}}}, "integer,string"),
        ({"kvBuffer": {"size": 4.5}}, "integer,string"),
        ({"router": {"resources": {"memory": True}}}, "integer,string"),
        *(({"waves": {"maxWait": each}}, "maxWait") for each in ("10", "1d", "", "9" * 9 + "h")),
        *(({part: {"extraArgs": [""]}}, "no empty text") for part in ("engine", "router")),
        ({"engine": {"extraArgs": ["--x", ""]}}, "no empty text"),
        *(({"kvBuffer": {"size": each}}, "kvBuffer.size") for each in ("64GB", "4 Gi", "lots")),
        ({"router": {"resources": {"memory": "1gi"}}}, "memory"),
    ],
)
async def test_one_mistake_is_told_once(more: Json, wrong: str, apiserver: ApiServer) -> None:
    answer = await try_to_create(apiserver, SPEC | more)
    assert wrong in answer["message"]
    assert "compose" not in answer["message"], answer["message"]
    assert "evaluating rule" not in answer["message"], answer["message"]
    told = [each for each in answer["details"]["causes"] if "not checked" not in each["message"]]
    assert len(told) == 1, answer["details"]


@pytest.mark.parametrize(
    "more",
    [
        {"engine": {"resources": {"cpu": ".5", "memory": "128e9"}}},
        {"engine": {"resources": {"cpu": "1500m", "memory": "17179869184"}}},
        {"router": {"resources": {"cpu": "1.", "memory": "1e9"}}},
        {"kvBuffer": {"size": ".5Gi"}, "engine": {"resources": {"memory": "1Ei"}}},
        {"kvBuffer": {"size": "1E+10"}},
        {
            "engine": {
                "tolerations": [
                    {"key": "gpu", "operator": "Exists", "value": "", "effect": ""},
                    {"key": "", "operator": "Exists"},
                    {"key": "gpu", "operator": "", "value": "x"},
                ]
            }
        },
        of_pod("tolerations", [{"key": "", "operator": "Exists", "value": "", "effect": ""}]),
        of_pod("tolerations", [{"key": "gpu", "operator": "", "value": "x"}], "router"),
        {"router": {"service": {"loadBalancerSourceRanges": []}}},
        {
            "router": {
                "service": {
                    "type": "LoadBalancer",
                    "loadBalancerSourceRanges": [
                        "10.0.0.0/8",
                        "::/0",
                        "2001:db8::/32",
                        "1:2:3:4:5:6:7:8/128",
                    ],
                }
            }
        },
        *(of_pod(name, False) for name, each in owned.OF_POD.items() if each.kind == "boolean"),
        added("engine", ports=[]),
        added("engine", env=[{"name": "A", "value": "$(HOME)"}]),
        of_pod("hostAliases", [{"ip": "fe80::1", "hostnames": ["a"]}]),
        {"accelerator": {"product": "AMD Instinct MI300X, 192GB"}},
        {"accelerator": {"product": "Intel(R) Data Center GPU Max"}},
        *(
            {"engine": {"image": image}}
            for image in (
                "img",
                "[::1]:5000/x",
                "reg:5000/a/b:t@sha256:" + "a" * 64,
                "UPPER/x",
                "registry.example.com/a__b/c-d.e:v1",
            )
        ),
        *(
            {"engine": {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": field}}}]}}
            for field in (
                *("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName"),
                *("spec.serviceAccountName", "status.hostIP", "status.podIP", "status.podIPs"),
                *("metadata.labels['example.com/team']", "metadata.annotations['a']"),
            )
        ),
        {"engine": {"extraArgs": ["--foo", "bar", "-1", "--chat-template=./x.jinja"]}},
        {"model": {"uri": "org/a-.b_c"}},
        {"engine": {"resources": {"cpu": 2, "memory": "12.5Gi"}}},
        {"engine": {"resources": {"cpu": "0.5", "memory": 17179869184}}},
        {"kvBuffer": {"size": "0.5Gi"}},
        {"kvBuffer": {"size": "2Pi"}},
        {"reshard": "Never"},
        {"timing": {"drainSeconds": 30, "startSeconds": 60, "progressSeconds": 90}},
        {"router": {"resources": {"cpu": 2, "memory": "1.5Gi"}, "extraArgs": ["--max-queued=9"]}},
        {"router": {"service": {"type": "NodePort", "nodePort": 30080}}},
        {"reshard": "never"},
        {"waves": {"maxWait": "1h"}},
        {"waves": {"maxWait": "1m30s"}},
        {"model": {"uri": "hf://org/model"}},
        {"model": {"uri": "org/model", "name": "mödel-🚀"}},
        {
            "engine": {
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]
            }
        },
        {"engine": {"image": "localhost:5000/a/b@sha256:" + "0" * 64}},
        {"engine": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4", "zone": ""}}},
    ],
    ids=str,
)
async def test_ordinary_spellings_are_taken(more: Json, apiserver: ApiServer) -> None:
    answer = await try_to_create(apiserver, SPEC | copy.deepcopy(more))
    assert answer["kind"] == "SeesawDeployment", answer
    spec = Spec.model_validate(answer["spec"])
    images = Images(worker="w:1", worker_cpu="c:1", router="r:1")
    owner = Owner(name="llama", namespace="default", uid="1")
    for manifest in objects_of(spec, owner, images, Timing()):  # which Kubernetes takes as well
        kind = manifest["kind"].lower() + "s"
        manifest["metadata"].pop("ownerReferences")
        made = await apiserver.create(f"{path('default', kind)}?dryRun=All", manifest)
        assert made["kind"] == manifest["kind"], made


@pytest.mark.parametrize(
    "uri", ["org/model", "model", "/models/a b".replace(" ", "-"), "pvc://c/p"]
)
async def test_what_is_in_order_is_taken(uri: str, apiserver: ApiServer) -> None:
    spec = {"model": {"uri": uri}} | TWO | {"parallelism": PAIR}
    answer = await try_to_create(apiserver, spec)
    assert answer["kind"] == "SeesawDeployment", answer
    assert answer["spec"]["kvBuffer"] == {"size": "4Gi"}  # defaults are filled in
    assert answer["spec"]["router"] == {
        "replicas": 1,
        "resources": {},
        "service": {"type": "ClusterIP"},
    }


@pytest.mark.parametrize(
    "parallelism", [{"mode": "Auto"}, {"mode": "Manual"} | PAIR, {}, PAIR], ids=str
)
async def test_each_way_to_say_who_chooses_the_layouts_is_taken(
    parallelism: Json, apiserver: ApiServer
) -> None:
    spec = SPEC | TWO | {"parallelism": parallelism}
    answer = await try_to_create(apiserver, spec)
    assert answer["kind"] == "SeesawDeployment", answer
    assert answer["spec"]["planning"] == {"approval": "Manual"}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
async def test_every_example_is_taken(example: Json, apiserver: ApiServer) -> None:
    answer = await try_to_create(apiserver, example["spec"], example["metadata"]["name"])
    assert answer["kind"] == "SeesawDeployment", answer


def test_kubectl_explains_every_field(apiserver: ApiServer) -> None:
    text = apiserver.kubectl("explain", "ssd.spec.kvBuffer")
    assert "The larger, the fewer transitions" in " ".join(text.split())
    everything = apiserver.kubectl("explain", "ssd.spec", "--recursive")
    for field in ("maxModelLen", "resourceName", "pipeline", "maxWait", "secretKeyRef"):
        assert field in everything
