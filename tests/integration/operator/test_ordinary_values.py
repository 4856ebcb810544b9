"""Ordinary values of a resource, in every spelling that Kubernetes knows: taken."""

import copy
from pathlib import Path

import pytest
import yaml

from seesaw_operator.api import owned
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import Owner
from seesaw_operator.settings import Images
from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.resources import path
from support.resource_specs.making import PAIR, SPEC, TWO, added, of_pod, try_to_create
from support.resource_status.built import built

FOLDER = Path(__file__).parents[3] / "manifests/examples"
EXAMPLES: dict[str, Json] = {
    path.stem: found
    for path in FOLDER.glob("*.yaml")
    for found in yaml.safe_load_all(path.read_text())
    if found["kind"] == "SeesawDeployment"
}


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
    for manifest in built(spec, owner, images):  # which Kubernetes takes as well
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
    assert "A larger buffer needs fewer transitions" in " ".join(text.split())
    everything = apiserver.kubectl("explain", "ssd.spec", "--recursive")
    for field in ("maxModelLen", "resourceName", "pipeline", "maxWait", "secretKeyRef"):
        assert field in everything
