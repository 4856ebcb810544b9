"""What the apiserver itself refuses, and what a user reads then."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from control_plane.apiserver import ApiServer, Json
from seesaw_operator.api.crd import definition
from seesaw_operator.api.rules import rules_of
from seesaw_operator.api.spec import Spec

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
    "extraArgs must not set what the operator sets": (
        "llama",
        {"engine": {"extraArgs": ["--dtype=float16", "--port=9000"]}},
    ),
    "metadata.name must begin with a letter": ("3b", {}),
    "engine.resources.memory must be larger than kvBuffer.size": (
        "llama",
        {"kvBuffer": {"size": "8Gi"}, "engine": {"resources": {"memory": "8192Mi"}}},
    ),
    "give exactly one of secretKeyRef and configMapKeyRef": (
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
    "metadata.name must have at most 40 characters": ("x" * 41, {}),
    "metadata.name must not contain dots": ("a.b", {}),
}

# Values out of bounds, and what the answer must name.
OUT_OF_BOUNDS: list[tuple[Json, list[str]]] = [
    ({"model": {"uri": "not a uri"}}, ["spec.model.uri", "not a uri"]),
    ({"model": {}}, ["spec.model.uri", "Required"]),
    ({"replicas": -1}, ["spec.replicas", "greater than or equal to 0"]),
    ({"accelerator": {"count": 0}}, ["spec.accelerator.count"]),
    ({"kvBuffer": {"size": "lots"}}, ["spec.kvBuffer.size", "lots"]),
    ({"reshard": "sometimes"}, ["spec.reshard", '"auto", "always", "never"']),
    ({"waves": {"maxWait": "soon"}}, ["spec.waves.maxWait", "soon"]),
    ({"parallelism": {"prefill": {"tensor": "two"}, "decode": {}}}, ["prefill.tensor", "integer"]),
    ({"parallelism": {"mode": "Sometimes"}}, ["spec.parallelism.mode", '"Auto", "Manual"']),
    ({"planning": {"approval": "Never"}}, ["planning.approval", '"Manual", "Automatic"']),
    ({"planning": {"promptTokens": 0}}, ["spec.planning.promptTokens"]),
    ({"accelerator": {"product": "-"}}, ["spec.accelerator.product"]),
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


def all_rules() -> Iterator[str]:
    def below(model: Any) -> Iterator[str]:
        yield from (rule.message for rule in rules_of(model))
        for field in model.model_fields.values():
            for part in (field.annotation, *get_args(field.annotation)):
                if hasattr(part, "model_fields"):
                    yield from below(part)

    yield from below(Spec)
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    yield from (rule["message"] for rule in schema["x-kubernetes-validations"])


def test_every_rule_is_broken_below() -> None:
    rules = set(all_rules())
    assert len(rules) == len(BREAKING)
    for message in rules:
        assert any(message.startswith(begin) for begin in BREAKING), message


@pytest.mark.parametrize("begin", BREAKING)
async def test_a_resource_that_breaks_a_rule_is_refused_in_its_words(
    begin: str, apiserver: ApiServer
) -> None:
    name, more = BREAKING[begin]
    (message,) = [m for m in all_rules() if m.startswith(begin)]
    answer = await try_to_create(apiserver, SPEC | copy.deepcopy(more), name)
    assert answer["kind"] == "Status", answer
    assert message in answer["message"]


@pytest.mark.parametrize(("more", "says"), OUT_OF_BOUNDS)
async def test_a_value_out_of_bounds_is_refused_by_name(
    more: Json, says: list[str], apiserver: ApiServer
) -> None:
    answer = await try_to_create(apiserver, SPEC | more)
    assert answer["kind"] == "Status", answer
    for part in says:
        assert part in answer["message"], answer["message"]


@pytest.mark.parametrize(
    "uri", ["org/model", "model", "/models/a b".replace(" ", "-"), "pvc://c/p"]
)
async def test_what_is_in_order_is_taken(uri: str, apiserver: ApiServer) -> None:
    spec = {"model": {"uri": uri}} | TWO | {"parallelism": PAIR}
    answer = await try_to_create(apiserver, spec)
    assert answer["kind"] == "SeesawDeployment", answer
    assert answer["spec"]["kvBuffer"] == {"size": "4Gi"}  # defaults are filled in
    assert answer["spec"]["router"] == {"replicas": 1}


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
