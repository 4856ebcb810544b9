"""Which values the apiserver takes in a resource, and what a user reads of others."""

import copy
from pathlib import Path

import pytest
import yaml

from seesaw_operator.api import engine, owned
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import Owner
from seesaw_operator.objects.all import plan as objects_of
from seesaw_operator.settings import Images, Timing
from seesaw_worker.server.flags import FLAGS
from seesaw_worker.upstream.vllm_flags import BY_FLAG
from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.resources import path
from support.resource_specs.making import PAIR, SPEC, TWO, added, of_pod, try_to_create

FOLDER = Path(__file__).parents[3] / "manifests/examples"
EXAMPLES: dict[str, Json] = {
    path.stem: found
    for path in FOLDER.glob("*.yaml")
    for found in yaml.safe_load_all(path.read_text())
    if found["kind"] == "SeesawDeployment"
}
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
    ({"engine": {"env": [{"name": "A", "value": "a" * 32769}]}}, ["env[0].value", "32768"]),
    (
        {"engine": {"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "x"}}}]}},
        ["resourceFieldRef.resource"],
    ),
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
    ({"router": {"service": {"annotations": {"a": "\0"}}}}, ["router.service.annotations[a]"]),
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
        (added("engine", component, resources={part: {"x.y/z": wrong}}), [f"{part}[x.y/z]"])
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
        for wrong in (
            "/x\n",
            "/x\0",
            "",
            "x",
            "/x:y",
            "/.",
            "/..",
            "/./x",
            "/x/../y",
            "/x/..",
            "x/y",
        )
    ),
    *(
        ({"accelerator": {"resourceName": wrong}}, ["accelerator.resourceName"])
        for wrong in ("mykubernetes.io/x", f"{'a' * 244}.y/z")
    ),
    *(
        ({"model": {"uri": wrong}}, ["spec.model.uri"])
        for wrong in (
            *("/", "//", "org/--x", "org/.x", "org/a..b", "a--b/c", "org/x."),
            *("a/b/c", "s3://a/b", "pvc://c/x ", "/models/x\n", "org/mo del"),
        )
    ),
    *(
        ({"waves": {"maxWait": wrong}}, ["spec.waves.maxWait"])
        for wrong in ("10", "1d", "10 s", "", "999999999h")
    ),
    ({"modle": {"uri": "org/x"}}, ["modle"]),
]


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
    (cause,) = answer["details"]["causes"]
    assert "engine.extraArgs must not set what the operator sets, as '" in cause["message"]
    assert flags[-1].split("=")[0].split(" ")[0] in cause["message"] or flags[0] in cause["message"]
    assert len(cause["message"]) < 250


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
        *(({"kvBuffer": {"size": each}}, "kvBuffer.size") for each in ("1.5", "-1Gi", -1, "0")),
        *(({"engine": {"resources": {"memory": each}}}, "memory") for each in ("-1Gi", "1.5")),
        *(({"model": {"uri": each}}, "model.uri") for each in ("../x", "a/../b", "pvc:///..", "")),
        ({"accelerator": {"resourceName": "a..b/kubernetes.io/x"}}, "resourceName"),
        ({"engine": {"nodeSelector": {"a": "b c"}}}, "nodeSelector"),
        ({"engine": {"nodeSelector": {"team": "a", "a b": "c"}}}, "none with the key 'a b'"),
        (of_pod("nodeSelector", {"x/y/z": "a"}), "and not like 'x/y/z'"),
        ({"router": {"service": {"labels": {"a b": "c"}}}}, "and not like 'a b'"),
        ({"engine": {"extraArgs": ["--port=$(F)"]}}, "write the value itself"),
        ({"engine": {"extraArgs": ["$(F)"]}}, "write the value itself"),
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
        {"engine": {"env": [{"name": "A", "value": "x" * 32768}]}},
        of_pod(
            "containers",
            [
                {
                    "name": "x",
                    "image": "x:1",
                    "volumeMounts": [
                        {"name": "shm", "mountPath": each}
                        for each in ("/x", "//x//", "/.x/..y/...", "/a b/ü", "/...z")
                    ],
                }
            ],
        ),
        *(
            {"engine": {"env": [{"name": "A", "valueFrom": source}]}}
            for source in (
                {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIP"}},
                {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}},
                {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}},
                {"resourceFieldRef": {"resource": "limits.hugepages-2Mi", "divisor": 1}},
                {"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": "0"}},
            )
        ),
        {"model": {"uri": "pvc://models/Llama 3"}},
        {"model": {"uri": "/models/Llama 3/8 B"}},
        *(
            {part: {"podTemplate": {"metadata": {"creationTimestamp": None, "labels": {"a": "b"}}}}}
            for part in ("engine", "router")
        ),
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
