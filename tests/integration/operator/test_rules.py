"""Rules that the apiserver itself enforces, each with the words that a user reads then."""

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from seesaw_core.errors import InputError
from seesaw_operator.api import owned
from seesaw_operator.api.crd import definition
from seesaw_operator.api.spec import Spec
from seesaw_operator.objects.merging import as_given
from seesaw_operator.objects.overlays import refusals
from seesaw_operator.objects.profiles import profiles_of
from seesaw_operator.objects.validation import validated_spec
from support.control_plane.apiserver import ApiServer, Json
from support.pod_templates.generated import ONE_FIELD, TEMPLATES
from support.resource_specs.making import INSTANCES, PAIR, SPEC, TWO, added, of_pod, try_to_create

OF_KIND: Json = {
    "boolean": True,
    "integer": 1,
    "object": {},
    "objects": [{"name": "x"}],
    "string": "x",
}


def variable(source: Json) -> Json:
    """A resource whose workers have a variable from there."""
    return {"engine": {"env": [{"name": "A", "valueFrom": source}]}}


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
    "parallelism.mode Elastic takes": ("llama", TWO | {"parallelism": {"mode": "Elastic"}}),
    "parallelism.elastic goes with": (
        "llama",
        TWO | {"parallelism": {"elastic": {"instances": 2}}},
    ),
    "parallelism.mode Elastic does not re-shard": (
        "llama",
        TWO | {"parallelism": PAIR | INSTANCES},
    ),
    "elastic instances must use all devices": ("llama", {"parallelism": INSTANCES}),
    "reshard Always does not go with": (
        "llama",
        TWO | {"parallelism": INSTANCES, "reshard": "always"},
    ),
    **{
        f"{component}.extraArgs must {begin}": ("llama", {component: {"extraArgs": given}})
        for component in ("engine", "router")
        for begin, given in (
            ("begin with a flag", ["other/model", "--x=1"]),
            ("hold no empty text", ["--x", ""]),
            ("not hold $(NAME)", ["--x", "-$(F)"]),
            ("not set what the operator sets", ["--dtype=float16", "--port=9000"]),
        )
    },
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
    "kvBuffer.size must be at least": ("llama", {"kvBuffer": {"size": 4}}),
    "waves.maxWait must be above 0": ("llama", {"waves": {"maxWait": "0s"}}),
    "engine.resources.memory must be at most 1Ei": (
        "llama",
        {"engine": {"resources": {"memory": "1.5Ei"}}},
    ),
    "engine.nodeSelector takes labels": ("llama", {"engine": {"nodeSelector": {"a b": "c"}}}),
    "give exactly one of secretKeyRef, configMapKeyRef, fieldRef": ("llama", variable({})),
    "the divisor of cpu is 1": (
        "llama",
        variable({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1Mi"}}),
    ),
    "podTemplate.metadata.creationTimestamp cannot be set": (
        "llama",
        {"router": {"podTemplate": {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}}},
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
    "podTemplate.spec.automountServiceAccountToken must not be false": (
        "llama",
        of_pod("automountServiceAccountToken", False, "router"),
    ),
    "metadata.name must have at most 40 characters": ("x" * 41, {}),
    "metadata.name must not contain dots": ("a.b", {}),
}
# What has another form than it must have, by the form's own words.
MISFORMED: dict[str, Json] = {
    "must be a size such as": {"kvBuffer": {"size": "64GB"}},
    "must be a number of processor cores": {"router": {"resources": {"cpu": "0"}}},
    "must be a quantity of at least 0": added(
        "router", "router", resources={"limits": {"x": "-1"}}
    ),
    "must be a time such as": {"waves": {"maxWait": "soon"}},
    "must be the name of a Kubernetes object": {"profile": "Bad_Name"},
    "must be a key of a Secret": variable({"secretKeyRef": {"name": "s", "key": ".."}}),
    "must be the name of a variable, such as HF_TOKEN: letters": {
        "engine": {"env": [{"name": "A B"}]}
    },
    "must be the name of a variable, such as HF_TOKEN: characters": added(
        "engine", env=[{"name": "a=b"}]
    ),
    "must be metadata.name": variable({"fieldRef": {"fieldPath": "spec.foo"}}),
    "must be limits or requests": variable({"resourceFieldRef": {"resource": "cpu"}}),
    "must be a unit such as": variable(
        {"resourceFieldRef": {"resource": "limits.memory", "divisor": "2Mi"}}
    ),
    "must not hold the character NUL": {"engine": {"env": [{"name": "A", "value": "a\0b"}]}},
    "must be a key such as team": of_pod("schedulingGates", [{"name": "a b"}]),
    "must be a key such as nvidia.com/gpu": {"engine": {"tolerations": [{"key": "a b"}]}},
    "must be a label's value": {"engine": {"nodeSelector": {"a": "b c"}}},
    "must be a name such as my-name": of_pod("volumes", [{"name": "a.b"}]),
    "must be an absolute path": added("engine", volumeMounts=[{"name": "x", "mountPath": "data"}]),
    "must be the name of an image": {"engine": {"image": "foo bar"}},
    "must be a port's name": added("x", image="x:1", ports=[{"containerPort": 9, "name": "UP"}]),
    "must be an IP address": of_pod("hostAliases", [{"ip": "localhost"}]),
    "must be a network": {
        "router": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["all"]}}
    },
    "must be 'cpu' or what": {"accelerator": {"resourceName": "memory"}},
    "must be the name of a product": {"accelerator": {"product": "-"}},
    "must be one word such as": {"model": {"uri": "x", "name": "Llama 3"}},
    "must be a repository of Hugging Face": {"model": {"uri": "s3://a/b"}},
}
BREAKING |= {begin: ("llama", more) for begin, more in MISFORMED.items()}
# Without what Kubernetes itself refuses once it is applied: a key that is none, and no image.
OF_TEMPLATES = [begin for begin in BREAKING if begin.startswith("podTemplate")]


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
    told = begin if "messageExpression" in all_rules()[message] else message
    assert told in answer["message"]
    causes = [c for c in answer["details"]["causes"] if told in c["message"]]
    assert {cause["reason"] for cause in causes} == {all_rules()[message]["reason"]}
    assert all(cause["field"] for cause in causes)


@pytest.mark.parametrize("begin", MISFORMED)
async def test_a_value_of_another_form_is_one_mistake_and_one_for_the_operator_too(
    begin: str, apiserver: ApiServer
) -> None:
    answer = await try_to_create(apiserver, SPEC | copy.deepcopy(MISFORMED[begin]))
    assert len(answer["details"]["causes"]) == 1, answer
    with pytest.raises(InputError) as refused:
        validated_spec(SPEC | MISFORMED[begin], {})
    assert begin in str(refused.value)
    assert "match pattern" not in str(refused.value)


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
    num_taken = 0

    @settings(max_examples=300, deadline=None)
    @given(TEMPLATES | ONE_FIELD, TEMPLATES | ONE_FIELD)
    def check(engine: Json, router: Json) -> None:
        parts = {"engine": {"podTemplate": engine}, "router": {"podTemplate": router}}
        nonlocal num_taken
        try:
            profiles_of(json.dumps({"p": parts}))
        except InputError:
            return
        num_taken += 1
        answer = asyncio.run(try_to_create(apiserver, SPEC | copy.deepcopy(parts)))
        assert answer["kind"] == "SeesawDeployment", answer["message"]

    check()
    assert num_taken >= 20
