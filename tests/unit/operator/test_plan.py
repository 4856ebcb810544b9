"""From a spec to objects: what each field does, and what holds for all of them."""

import copy
import json
from typing import Any, get_args, get_origin

import pytest

from seesaw_operator.api import engine, router
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import Owner
from seesaw_operator.objects.context import timing_of
from seesaw_operator.objects.quantities import num_bytes
from seesaw_operator.settings import Images, Timing
from support.pod_templates.samples import FOR_ENGINE, FOR_ROUTER
from support.resource_status.built import built

OWNER = Owner(name="llama", namespace="team", uid="1234")
IMAGES = Images(worker="worker:1", worker_cpu="worker-cpu:1", router="router:1")
FULL: dict[str, Any] = {
    "model": {"uri": "pvc://claim/a/b", "name": "llama-70b", "maxModelLen": 4096},
    "accelerator": {"resourceName": "nvidia.com/gpu", "count": 8},
    "replicas": 2,
    "parallelism": {
        "prefill": {"tensor": 1, "pipeline": 4, "data": 2},
        "decode": {"tensor": 4, "pipeline": 1, "data": 2},
    },
    "reshard": "Always",
    "kvBuffer": {"size": "64Gi"},
    "waves": {"maxWait": "500ms"},
    "engine": {
        "image": "mine:2",
        "extraArgs": ["--dtype=bfloat16"],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}},
        ],
        "resources": {"cpu": "16", "memory": "200Gi"},
        "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "podTemplate": {"metadata": {}, "spec": {}},
    },
    "router": {
        "replicas": 3,
        "image": "mine-router:2",
        "extraArgs": ["--max-queued=9"],
        "resources": {"cpu": "1", "memory": "2Gi"},
        "service": {"type": "LoadBalancer"},
        "podTemplate": {"metadata": {}, "spec": {}},
    },
}
# The same with the layouts left to the planner.
PLANNED: dict[str, Any] = {k: v for k, v in FULL.items() if k != "parallelism"} | {
    "accelerator": {"count": 8, "product": "L4"},
    "planning": {"promptTokens": 3000, "outputTokens": 300, "concurrency": 64},
}
# The same with elastic instances.
ELASTIC: dict[str, Any] = FULL | {
    "parallelism": {"mode": "Elastic", "elastic": {"instances": 4, "tensor": 2}},
    "reshard": "Auto",
}
# Another value for every field, by its path.
CHANGED: dict[str, Any] = {
    "model.uri": "org/other",
    "model.name": "other",
    "model.maxModelLen": 8192,
    "accelerator.resourceName": "amd.com/gpu",
    "accelerator.count": 16,
    "accelerator.product": "A10",
    "replicas": 3,
    "parallelism.mode": None,  # says no more than the layouts do, by a rule
    "parallelism.prefill.tensor": 2,
    "parallelism.prefill.pipeline": 2,
    "parallelism.prefill.data": None,  # equal to decode.data, by a rule
    "parallelism.decode.tensor": 2,
    "parallelism.decode.pipeline": 2,
    "parallelism.decode.data": 4,
    "parallelism.elastic.instances": 8,
    "parallelism.elastic.tensor": 4,
    "planning.approval": None,  # what the operator does with workers' answers: test_planning.py
    "planning.promptTokens": 500,
    "planning.outputTokens": 900,
    "planning.concurrency": 8,
    "reshard": "Never",
    "kvBuffer.size": "32Gi",
    "waves.maxWait": "2s",
    "engine.image": "mine:3",
    "engine.extraArgs": ["--dtype=float16"],
    "engine.env": [{"name": "A", "value": "2"}],
    "engine.resources.cpu": "8",
    "engine.resources.memory": "100Gi",
    "engine.nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-A10"},
    "engine.tolerations": [{"key": "team", "value": "search"}],
    "router.replicas": 1,
    "router.image": "mine-router:3",
    "router.extraArgs": ["--max-queued=10"],
    "router.resources.cpu": 2,
    "router.resources.memory": "3Gi",
    "router.service.type": "NodePort",
    "router.service.labels": {"team": "search"},
    "router.service.annotations": {"example.com/internal": "true"},
    "router.service.loadBalancerClass": "example.com/nlb",
    "router.service.loadBalancerSourceRanges": ["10.0.0.0/8"],
    "router.service.externalTrafficPolicy": "Local",
    "router.service.nodePort": 30080,
    "timing.drainSeconds": None,  # which stand before the operator's, as is tested below
    "timing.startSeconds": None,
    "timing.progressSeconds": None,
    "profile": None,  # what it holds is merged before
    "paused": True,
    **{
        f"{component}.podTemplate.{part}.{field}": value
        for component, template in (("engine", FOR_ENGINE), ("router", FOR_ROUTER))
        for part, fields in template.items()
        for field, value in fields.items()
    },
    "router.podTemplate.spec.automountServiceAccountToken": None,  # must not say otherwise
}


def objects(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return built(Spec.model_validate(spec), OWNER, IMAGES)


def paths(value: dict[str, Any], path: str = "") -> list[str]:
    found = []
    for name, below in value.items():
        inner = f"{path}.{name}" if path else name
        found += paths(below, inner) if isinstance(below, dict) else [inner]
    return found


def named(made: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (one,) = (o for o in made if o["kind"] == kind)
    return one


def worker_pod(spec: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = named(objects(spec), "StatefulSet")["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("path", [p for p in CHANGED if CHANGED[p] is not None])
def test_each_field_of_the_spec_changes_some_object(path: str) -> None:
    is_planners = path == "accelerator.product" or path.startswith("planning.")
    is_elastic = path.startswith("parallelism.elastic.")
    before = PLANNED if is_planners else ELASTIC if is_elastic else FULL
    changed = copy.deepcopy(before)
    *above, last = path.split(".")
    at = changed
    for name in above:
        at = at[name]
    at[last] = CHANGED[path]
    assert json.dumps(objects(changed)) != json.dumps(objects(before))


def test_no_field_of_the_spec_is_left_out_of_that_test() -> None:
    def fields(model: Any, path: str = "") -> list[str]:
        found = []
        for field in model.model_fields.values():
            inner = f"{path}.{field.alias}" if path else str(field.alias)
            optional = [a for a in get_args(field.annotation) if a is not type(None)]
            is_list = get_origin(field.annotation) is tuple
            below = optional[0] if optional and not is_list else field.annotation
            found += fields(below, inner) if hasattr(below, "model_fields") else [inner]
        return found

    assert sorted(fields(Spec)) == sorted(CHANGED)


def test_all_objects_go_when_their_resource_goes() -> None:
    for each in objects(FULL):
        (owner,) = each["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == (
            "SeesawDeployment",
            "1234",
            True,
        )


def test_a_replica_with_data_parallelism_has_an_engine_a_part() -> None:
    pod = worker_pod(FULL)
    assert [c["name"] for c in pod["containers"]] == ["engine-0", "engine-1"]
    for container in pod["containers"]:
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "4"
        assert "--kv-buffer-gib=32" in container["args"]


def test_elastic_instances_are_one_engine_without_a_buffer_and_what_belongs_to_it() -> None:
    pod = worker_pod(ELASTIC)
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "8"
    flags = [each.split("=")[0] for each in container["args"]]
    assert {"--elastic-instances=4", "--tensor-parallel-size=2"} <= set(container["args"])
    assert not {"--reshard", "--kv-buffer-gib", "--flush-timeout-s", "--parallelism"} & set(flags)
    without = copy.deepcopy(ELASTIC)
    del without["engine"]["resources"]
    pod = worker_pod(without)
    assert pod["containers"][0]["resources"]["requests"]["memory"] == "8Gi"
    assert pod["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}


def test_a_pods_memory_and_cores_are_shared_by_its_engines() -> None:
    for container in worker_pod(FULL)["containers"]:
        assert container["resources"]["requests"]["cpu"] == "8"
        assert container["resources"]["requests"]["memory"] == "100Gi"


def test_a_gpu_worker_asks_for_the_cores_that_vllm_needs_and_for_disk() -> None:
    spec = {"model": {"uri": "org/m"}, "accelerator": {"count": 4}}
    (container,) = worker_pod(spec)["containers"]
    assert (
        container["resources"]["requests"].items()
        >= {
            "cpu": "6",
            "ephemeral-storage": "2Gi",
        }.items()
    )


@pytest.mark.parametrize(
    ("given", "asked"),
    [({"limits": "1Gi"}, None), ({"requests": "9Gi"}, "9Gi"), ({}, "2Gi")],
)
def test_disk_that_the_user_asks_for_or_bounds_is_left_to_them(
    given: dict[str, str], asked: str | None
) -> None:
    resources = {part: {"ephemeral-storage": size} for part, size in given.items()}
    template = {"spec": {"containers": [{"name": "engine", "resources": resources}]}}
    spec = {"model": {"uri": "org/m"}, "engine": {"podTemplate": template}}
    (container,) = worker_pod(spec)["containers"]
    assert container["resources"]["requests"].get("ephemeral-storage") == asked


def test_pods_prefer_nodes_that_have_none_of_their_kind_unless_the_user_says_how() -> None:
    made = objects(FULL)
    for kind in ("StatefulSet", "Deployment"):
        (spread,) = named(made, kind)["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (
            "kubernetes.io/hostname",
            "ScheduleAnyway",
        )
    own = {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    template = {"spec": {"topologySpreadConstraints": [own | {"maxSkew": 2}]}}
    pod = worker_pod({"model": {"uri": "org/m"}, "engine": {"podTemplate": template}})
    (spread,) = pod["topologySpreadConstraints"]
    assert (spread["maxSkew"], spread["whenUnsatisfiable"]) == (2, "DoNotSchedule")


def test_the_users_environment_replaces_ours_by_name() -> None:
    spec = copy.deepcopy(FULL)
    spec["engine"]["env"] = [{"name": "HOME", "value": "/data"}]
    env = worker_pod(spec)["containers"][0]["env"]
    assert env == [{"name": "HOME", "value": "/data"}, {"name": "USER", "value": "seesaw"}]


def test_workers_go_to_the_nodes_that_the_user_names() -> None:
    pod = worker_pod(FULL)
    assert pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-L4"}
    assert pod["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    ]


def test_what_the_user_adds_comes_last_and_so_wins() -> None:
    assert worker_pod(FULL)["containers"][0]["args"][-1] == "--dtype=bfloat16"


def test_a_name_that_looks_like_a_variable_is_a_name() -> None:
    named = {"name": "$(USER)-a$$b", "uri": "/m/$(HOME)"}
    spec = {"model": named, "engine": {"extraArgs": ["--x=$(VAR)"]}}
    args = worker_pod(spec)["containers"][0]["args"]
    assert args[:3] == ["worker", "/m/$$(HOME)", "--served-model-name=$$(USER)-a$$$$b"]
    assert args[-1] == "--x=$(VAR)", "what the user adds is the user's"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e9", 10**9),
        ("128e+09", 128 * 10**9),
        (".5Gi", 1 << 29),
        ("2.Gi", 2 << 30),
        ("1E", 10**18),
        ("1Ei", 1 << 60),
        ("1.5E3", 1500),
    ],
)
def test_sizes_are_read_in_each_of_kubernetes_spellings(written: str, meant: int) -> None:
    assert num_bytes(written) == meant


def test_the_ten_lines_leave_the_layouts_to_the_worker() -> None:
    pod = worker_pod({"model": {"uri": "org/m"}, "accelerator": {"count": 8}})
    (container,) = pod["containers"]
    args = container["args"]
    assert args[:2] == ["worker", "org/m"]
    assert {"--parallelism=auto", "--devices=8"} <= set(args)
    assert not [arg for arg in args if "parallel-size" in arg or "plan-" in arg]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}


def test_the_planner_is_told_the_devices_and_the_workload() -> None:
    args = worker_pod(PLANNED)["containers"][0]["args"]
    assert {
        "--parallelism=auto",
        "--devices=8",
        "--accelerator=L4",
        "--plan-prompt-tokens=3000",
        "--plan-output-tokens=300",
        "--plan-concurrency=64",
    } <= set(args)


def test_layouts_that_are_given_are_taken_as_they_are() -> None:
    for more in ({}, {"mode": "Manual"}):
        spec = FULL | {"parallelism": FULL["parallelism"] | more}
        args = worker_pod(spec)["containers"][0]["args"]
        assert {"--prefill-pipeline-parallel-size=4", "--decode-tensor-parallel-size=4"} <= set(
            args
        )
        assert not [arg for arg in args if arg.startswith(("--parallelism", "--devices"))]


def test_either_spelling_of_reshard_is_the_same_flag() -> None:
    for word in ("Never", "never"):
        args = worker_pod({"model": {"uri": "org/m"}, "reshard": word})["containers"][0]["args"]
        assert "--reshard=never" in args


def test_the_kv_buffer_is_counted_in_the_pods_memory() -> None:
    pod = worker_pod({"model": {"uri": "org/m"}, "kvBuffer": {"size": "64Gi"}})
    (container,) = pod["containers"]
    assert container["resources"]["requests"]["memory"] == f"{64 + 8}Gi"
    assert pod["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "66Gi"}


def test_a_pod_has_time_to_drain_and_is_never_killed_while_it_loads() -> None:
    pod = worker_pod(FULL)
    assert pod["terminationGracePeriodSeconds"] > 600 + 5
    container = pod["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] == "/seesaw/state"  # 200 while loading
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"  # 503 while loading


def test_a_resource_has_its_own_timing_before_the_operators() -> None:
    spec = Spec.model_validate(
        {"model": {"uri": "org/m"}, "timing": {"drainSeconds": 30, "progressSeconds": 50}}
    )
    common = Timing(pre_stop_s=7, drain_s=1, start_s=2, progress_s=3)
    assert timing_of(spec, common) == Timing(pre_stop_s=7, drain_s=30, start_s=2, progress_s=50)


def test_what_is_paused_keeps_the_pods_that_it_has() -> None:
    made = objects(FULL | {"paused": True})
    rollout = named(made, "StatefulSet")["spec"]["updateStrategy"]["rollingUpdate"]
    assert rollout == {"partition": FULL["replicas"]}
    assert named(made, "Deployment")["spec"]["paused"] is True
    assert "paused" not in named(objects(FULL), "Deployment")["spec"]


def test_the_service_is_as_the_user_wants_it_reached() -> None:
    service = {
        "type": "LoadBalancer",
        "labels": {"team": "search"},
        "annotations": {"example.com/internal": "true"},
        "loadBalancerClass": "example.com/nlb",
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "externalTrafficPolicy": "Local",
        "nodePort": 30080,
    }
    made = objects(FULL | {"router": {"service": service}})
    (found,) = (o for o in made if o["kind"] == "Service" and o["metadata"]["name"] == "llama")
    assert found["metadata"]["labels"]["team"] == "search"
    assert found["metadata"]["annotations"] == {"example.com/internal": "true"}
    assert found["spec"] == {
        "type": "LoadBalancer",
        "selector": OWNER.selector("router"),
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080}],
        "loadBalancerClass": "example.com/nlb",
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "externalTrafficPolicy": "Local",
    }


def test_every_pod_passes_the_restricted_profile() -> None:
    for kind in ("StatefulSet", "Deployment"):
        pod = named(objects(FULL), kind)["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
        allowed = {"emptyDir", "persistentVolumeClaim"}
        assert all(set(v) - {"name"} <= allowed for v in pod.get("volumes", ()))


@pytest.mark.parametrize("spec", [FULL, PLANNED], ids=["layouts", "planned"])
def test_no_flag_that_the_operator_sets_can_be_given_in_extra_args(spec: dict[str, Any]) -> None:
    spec = copy.deepcopy(spec)
    del spec["engine"]["extraArgs"], spec["router"]["extraArgs"]
    made = objects(spec)
    for kind, refused in (("StatefulSet", engine._OPERATORS), ("Deployment", router._OPERATORS)):
        for container in named(made, kind)["spec"]["template"]["spec"]["containers"]:
            flags = {arg.split("=")[0] for arg in container["args"] if arg.startswith("-")}
            defaults = {"--max-unserved-s"}  # which extraArgs may replace
            assert flags <= refused.keys() | defaults
