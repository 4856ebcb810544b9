"""What users add to pods: merged as Kubernetes merges, and refused by name where it is ours."""

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from seesaw_core.errors import InputError
from seesaw_operator.api import owned
from seesaw_operator.api.spec import Spec
from seesaw_operator.objects.overlays import refusals
from seesaw_operator.objects.validation import validated_spec
from support.pod_templates.samples import FOR_ENGINE, FOR_ROUTER, IMAGES, OWNER
from support.resource_status.built import built

Json = dict[str, Any]

TWO_ENGINES: Json = {
    "accelerator": {"count": 2},
    "parallelism": {"prefill": {"data": 2}, "decode": {"data": 2}},
}


def spec_of(worker: Json | None = None, router: Json | None = None, **more: Any) -> Spec:
    written: Json = {"model": {"uri": "pvc://claim/m"}} | copy.deepcopy(more)
    if worker is not None:
        written.setdefault("engine", {})["podTemplate"] = worker
    if router is not None:
        written["router"] = {"podTemplate": router}
    return Spec.model_validate(written)


def templates(spec: Spec) -> tuple[Json, Json]:
    """Of workers and routers."""
    assert refusals(spec) == []
    made = {each["kind"]: each for each in built(spec, OWNER, IMAGES)}
    workers, routers = (made[kind]["spec"]["template"] for kind in ("StatefulSet", "Deployment"))
    return workers, routers


def of_pod(field: str, value: Any) -> Json:
    return {"spec": {field: value}}


def test_without_a_template_pods_are_as_the_operator_makes_them() -> None:
    assert templates(spec_of({}, {})) == templates(spec_of())
    assert templates(spec_of({"spec": {}, "metadata": {}})) == templates(spec_of())


def test_what_is_added_comes_after_what_is_ours() -> None:
    bare, _ = templates(spec_of())
    pod, _ = templates(spec_of(FOR_ENGINE))
    names = [container["name"] for container in pod["spec"]["containers"]]
    assert names == ["engine-0", "logs"]
    assert pod["spec"]["volumes"][:3] == bare["spec"]["volumes"]
    assert [v["name"] for v in pod["spec"]["volumes"][3:]] == ["d", "certs"]
    assert pod["spec"]["imagePullSecrets"] == [{"name": "ours"}, {"name": "registry"}]
    engine, before = pod["spec"]["containers"][0], bare["spec"]["containers"][0]
    assert [e["name"] for e in engine["env"]] == ["HOME", "USER", "NCCL_DEBUG"]
    assert engine["volumeMounts"][:4] == before["volumeMounts"]
    assert engine["resources"]["limits"] == {"nvidia.com/gpu": "1", "ephemeral-storage": "20Gi"}
    assert engine["securityContext"] == before["securityContext"] | {
        "readOnlyRootFilesystem": False
    }
    assert pod["metadata"]["labels"].items() > bare["metadata"]["labels"].items()


def test_of_two_spreads_of_the_users_that_share_a_key_both_stay_beside_ours() -> None:
    zone = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    other = zone | {"whenUnsatisfiable": "ScheduleAnyway"}
    pod, _ = templates(spec_of(of_pod("topologySpreadConstraints", [zone, other])))
    ours, *theirs = pod["spec"]["topologySpreadConstraints"]
    assert ours["topologyKey"] == "kubernetes.io/hostname"
    assert theirs == [zone, other]


def test_what_is_added_to_engine_is_added_to_each_engine_of_a_replica() -> None:
    one = {"name": "engine", "env": [{"name": "A", "value": "1"}]}
    pod, _ = templates(spec_of(of_pod("containers", [one]), **TWO_ENGINES))
    assert [c["name"] for c in pod["spec"]["containers"]] == ["engine-0", "engine-1"]
    for container in pod["spec"]["containers"]:
        assert {"name": "A", "value": "1"} in container["env"]


def test_null_takes_a_field_of_ours_away() -> None:
    any_user = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}  # as OpenShift wants it
    pod, _ = templates(spec_of(of_pod("securityContext", any_user)))
    assert pod["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def test_a_spread_over_the_same_places_changes_ours() -> None:
    strict = {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    _, pod = templates(spec_of(router=of_pod("topologySpreadConstraints", [strict])))
    (constraint,) = pod["spec"]["topologySpreadConstraints"]
    assert constraint["whenUnsatisfiable"] == "DoNotSchedule"
    assert constraint["labelSelector"]["matchLabels"]["seesaw.dev/deployment"] == "llama"


def test_no_item_that_a_user_wrote_is_lost_to_another() -> None:
    ports = [{"containerPort": 53, "protocol": each} for each in ("TCP", "UDP")]
    spreads = [
        {"topologyKey": key, "maxSkew": 1, "whenUnsatisfiable": when}
        for key in ("kubernetes.io/hostname", "zone")
        for when in ("DoNotSchedule", "ScheduleAnyway")
    ]
    given = {
        "spec": {
            "containers": [{"name": "dns", "image": "dns:1", "ports": ports}],
            "topologySpreadConstraints": spreads,
        }
    }
    for pod in templates(spec_of(given, given)):
        assert pod["spec"]["containers"][1]["ports"] == ports
        made = pod["spec"]["topologySpreadConstraints"]
        assert [{key: each[key] for key in spreads[0]} for each in made] == spreads


def test_routers_rights_go_to_the_service_account_that_they_run_as() -> None:
    for template, name in ((None, "llama-router"), (FOR_ROUTER, "models")):
        made = {each["kind"]: each for each in built(spec_of(None, template), OWNER, IMAGES)}
        (subject,) = made["RoleBinding"]["subjects"]
        pod = made["Deployment"]["spec"]["template"]["spec"]
        assert subject["name"] == pod["serviceAccountName"] == name


def container(name: str, **more: Any) -> Json:
    image = {} if name in ("engine", "router") else {"image": "x:1"}
    return of_pod("containers", [{"name": name} | image | more])


def test_a_template_without_end_is_refused_and_ends_nothing() -> None:
    deep: Json = {}
    for _ in range(1_000):
        deep = {"preference": deep}
    with pytest.raises(InputError, match="nested more than 64 levels deep"):
        validated_spec(
            {
                "model": {"uri": "org/m"},
                "engine": {"podTemplate": of_pod("affinity", {"nodeAffinity": deep})},
            },
            {},
        )


def first(name: str) -> Json:
    return of_pod("initContainers", [{"name": name, "image": "x:1"}])


REFUSED_FOR_ENGINE: list[tuple[Json, str]] = [
    *(
        (container("engine", **{field: "x"}), f".spec.containers[engine].{field}: ")
        for field in owned.OF_CONTAINER
    ),
    (container("engine", ports=[{"containerPort": 1}]), ".spec.containers[engine].ports: "),
    (container("engine", anything=1), ".spec.containers[engine].anything: "),
    *(
        (
            container("engine", resources={part: {name: 1}}),
            f".spec.containers[engine].resources.{part}: {name} ",
        )
        for part in ("limits", "requests")
        for name in ("cpu", "memory", "example.com/gpu")
    ),
    (container("engine", env=[{"name": "HOME"}]), ".spec.containers[engine].env: HOME "),
    (container("engine", env=[{"name": "GIVEN"}]), ".spec.containers[engine].env: GIVEN "),
    *(
        (
            container("engine", volumeMounts=[{"name": "x", "mountPath": path}]),
            ".spec.containers[engine].volumeMounts: ",
        )
        for path in ("/dev/shm", "/dev//shm/", "/dev", "/", "//", "/tmp", "/scratch/", "/models")
    ),
    (container("engine-0", image="x"), ".spec.containers[engine-0]: "),
    (
        first("engine"),
        ".spec.initContainers[engine]: ",
    ),
    (
        first("engine-7"),
        ".spec.initContainers[engine-7]: ",
    ),
    (container("x", ports=[{"containerPort": 8001}]), ".spec.containers[x].ports: 8001 "),
    (
        container("x", ports=[{"containerPort": 8001, "name": "m"}]),
        ".spec.containers[x].ports: 8001 ",
    ),
    (
        container("x", ports=[{"containerPort": 1, "name": "engine-1"}]),
        ".spec.containers[x].ports: engine-1 ",
    ),
    *(
        (of_pod("volumes", [{"name": name, "emptyDir": {}}]), f".spec.volumes: {name} ")
        for name in ("shm", "scratch", "model")
    ),
    *(
        ({"metadata": {part: {key: "x"}}}, f".metadata.{part}: {key} ")
        for part in ("labels", "annotations")
        for key in (*owned.LABELS, "seesaw.dev/deployment", "any.seesaw.dev/x")
    ),
    (
        of_pod("containers", [{"name": "engine"}, {"name": "engine"}]),
        ".spec.containers: two are named engine",
    ),
    (
        container("x", ports=[{"containerPort": n, "name": "a"} for n in (9, 10)]),
        ".spec.containers[x].ports: two are named a",
    ),
    (
        container("x", ports=[{"containerPort": 9, "protocol": "TCP"}, {"containerPort": 9}]),
        ".spec.containers[x].ports: 9/TCP is there twice",
    ),
    (
        {
            "spec": {
                field: [{"name": "x", "image": "y"}] for field in ("containers", "initContainers")
            }
        },
        ".spec.containers: two are named x",
    ),
    *(
        (
            container(name, volumeMounts=[{"name": "x", "mountPath": path}]),
            f".spec.containers[{name}].volumeMounts: {path} ",
        )
        for name in ("engine", "x")
        for path in ("/proc", "//proc/sys")
    ),
    (
        {"metadata": {"annotations": {f"a{i}": "x" * 60_000 for i in range(5)}}},
        ".metadata.annotations: 300010 bytes together",
    ),
    (of_pod("volumes", [{"name": "v", "csi": {"k" * 2000: "v"}}]), ".spec.volumes[0].csi: a key "),
    (of_pod("affinity", {"a": ["x", "\0"]}), ".spec.affinity.a[1]: it must not contain NUL"),
    (of_pod("affinity", {"$patch": "delete"}), ".spec.affinity.$patch: "),
    (
        container("x", args=[], env=[{"name": "A", "$patch": "x"}]),
        ".spec.containers[0].env[0].$patch",
    ),
]
REFUSED_FOR_ROUTER: list[tuple[Json, str]] = [
    (container("router", image="x"), ".spec.containers[router].image: "),
    (
        container("router", resources={"limits": {"memory": 1}}),
        ".spec.containers[router].resources",
    ),
    (container("x", ports=[{"containerPort": 8000}]), ".spec.containers[x].ports: 8000 "),
    (
        container("x", ports=[{"containerPort": 1, "name": "http"}]),
        ".spec.containers[x].ports: http ",
    ),
    (
        first("router"),
        ".spec.initContainers[router]: ",
    ),
    (of_pod("automountServiceAccountToken", False), ".spec.automountServiceAccountToken: "),
]


@pytest.mark.parametrize(("template", "begin"), REFUSED_FOR_ENGINE)
def test_what_is_the_operators_in_a_worker_is_refused_by_name(template: Json, begin: str) -> None:
    given = {"accelerator": {"resourceName": "example.com/gpu"} | TWO_ENGINES["accelerator"]}
    env = [{"name": "GIVEN", "value": "1"}]
    (said,) = refusals(spec_of(template, **TWO_ENGINES | given, engine={"env": env}))
    assert said.startswith(f"spec.engine.podTemplate{begin}")


@pytest.mark.parametrize(("template", "begin"), REFUSED_FOR_ROUTER)
def test_what_is_the_operators_in_a_router_is_refused_by_name(template: Json, begin: str) -> None:
    (said,) = refusals(spec_of(router=template))
    assert said.startswith(f"spec.router.podTemplate{begin}")


@pytest.mark.parametrize(
    "more",
    [
        {"engine": {"extraArgs": ["--hf-token", "", "--kv-buf=8"]}},
        {"reshard": "always"},
        {"engine": {"podTemplate": of_pod("hostAliases", [{"ip": "010.0.0.1"}])}},
        {"engine": {"podTemplate": container("engine", ports=[])}},
    ],
    ids=str,
)
def test_what_was_taken_before_is_still_read(more: Json) -> None:
    assert refusals(Spec.model_validate({"model": {"uri": "x"}} | more)) == []


def test_annotations_of_the_service_are_bounded_together() -> None:
    annotations = {f"a{i}": "é" * 30_000 for i in range(5)}
    written = {"model": {"uri": "x"}, "router": {"service": {"annotations": annotations}}}
    (said,) = refusals(Spec.model_validate(written))
    assert said.startswith("spec.router.service.annotations: 300010 bytes together")


@pytest.mark.parametrize(
    "path", ["/scratch/.cache", "/dev/shm/x", "/tmpx", "/data", "/models/extra", "/devices"]
)
def test_what_hides_nothing_of_ours_can_be_mounted(path: str) -> None:
    spec = spec_of(container("engine", volumeMounts=[{"name": "x", "mountPath": path}]))
    assert refusals(spec) == []


@pytest.mark.parametrize("path", ["relative", "/a/../dev/shm", "/a/./b", "/a:b", ""])
def test_a_path_that_is_not_plain_is_no_mount(path: str) -> None:
    with pytest.raises(ValidationError, match="mountPath"):
        spec_of(container("engine", volumeMounts=[{"name": "x", "mountPath": path}]))


def test_the_tables_name_all_that_is_in_our_containers() -> None:
    workers, routers = templates(spec_of())
    for pod, ours in ((workers["spec"], owned.ENGINE), (routers["spec"], owned.ROUTER)):
        assert {v["name"] for v in pod.get("volumes", ())} == set(ours.volumes)
        for each in pod["containers"]:
            assert ours.has(each["name"])
            assert {m["mountPath"] for m in each.get("volumeMounts", ())} == set(ours.mounts)
            assert {e["name"] for e in each.get("env", ())} == set(ours.env)
            known = {"name", "ports", *owned.OF_CONTAINER, *owned.FREE_IN_CONTAINER}
            assert each.keys() <= known
    for template in (workers, routers):
        ours_too = {k for k in template["metadata"]["labels"] if "seesaw.dev/" not in k}
        assert ours_too <= set(owned.LABELS)
