"""Whatever the rules let through leaves all that the operator owns as it makes it."""

import posixpath
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pod_templates.samples import IMAGES, OWNER
from seesaw_operator.api import owned
from seesaw_operator.api.spec import Spec
from seesaw_operator.drift import with_digest
from seesaw_operator.objects.merging import with_template
from seesaw_operator.overlays import refusals
from seesaw_operator.plan import plan
from seesaw_operator.settings import Timing

Json = dict[str, Any]
Made = st.SearchStrategy[Any]

FREE = st.dictionaries(
    st.sampled_from(["a", "name", "env", "ports", "volumes", "devicePath", "$patch"]),
    st.none() | st.integers(0, 9) | st.sampled_from([[{"name": "x"}], [1], {"b": None}]),
    max_size=2,
)


def of(*values: Any) -> Made:
    return st.sampled_from(values)


def some(items: Made, at_most: int = 3) -> Made:
    return st.none() | st.lists(items, max_size=at_most)


# What is in order and what is ours: either may be drawn.
ENV = st.fixed_dictionaries(
    {"name": of("A", "B", "C", "HOME", "USER", "GIVEN")},
    optional={"value": of("1", None), "valueFrom": FREE},
)
MOUNTS = st.fixed_dictionaries(
    {"name": of("d", "e", "shm"), "mountPath": of("/d", "/scratch/d", "/x/y", "/tmp", "/dev//shm")},
    optional={"readOnly": st.booleans(), "subPath": of("p")},
)
PORTS = st.fixed_dictionaries(
    {"containerPort": of(9000, 9001, 8000, 8001)},
    optional={"name": of("m", "http", "engine-0"), "protocol": of("TCP", "UDP")},
)
QUANTITIES = st.dictionaries(
    of("ephemeral-storage", "rdma/hca", "hugepages-2Mi", "cpu", "memory", "nvidia.com/gpu"),
    of(1, "2Gi", "500m"),
    max_size=2,
)
TO_OURS: dict[str, Made] = {
    "env": some(ENV),
    "envFrom": some(FREE, 1),
    "volumeMounts": some(MOUNTS),
    "volumeDevices": some(st.fixed_dictionaries({"devicePath": of("/dev/a", "/dev/b")}) | FREE),
    "resources": st.fixed_dictionaries({}, optional={"limits": QUANTITIES, "requests": QUANTITIES}),
    "securityContext": st.dictionaries(of("runAsUser", "privileged"), of(None, 1), max_size=2),
}
CONTAINERS = st.one_of(
    st.fixed_dictionaries({"name": of("engine", "router")}, optional=TO_OURS),
    st.fixed_dictionaries(
        {"name": of("a", "b", "engine", "router", "engine-0", "engine-1"), "image": of("x:1")},
        optional={"ports": some(PORTS)}
        | TO_OURS
        | {name: FREE for name in sorted(owned.OF_CONTAINER) if name != "image"},
    ),
)
NAMED = st.fixed_dictionaries({"name": of("d", "e", "ours", "shm", "model")}, optional={"x": FREE})
PODS = st.fixed_dictionaries(
    {},
    optional={
        "affinity": FREE,
        "automountServiceAccountToken": st.booleans(),
        "containers": some(CONTAINERS),
        "dnsConfig": FREE,
        "hostAliases": some(st.fixed_dictionaries({"ip": of("10.0.0.1", "10.0.0.2")})),
        "imagePullSecrets": some(NAMED),
        "initContainers": some(CONTAINERS),
        "nodeSelector": st.dictionaries(of("a", "b"), of("x", "y")),
        "resourceClaims": some(NAMED),
        "securityContext": st.dictionaries(of("runAsUser", "fsGroup"), of(None, 7)),
        "serviceAccountName": of("mine", None),
        "tolerations": some(st.just({"key": "x", "operator": "Exists"})),
        "topologySpreadConstraints": some(
            st.fixed_dictionaries(
                {
                    "topologyKey": of("kubernetes.io/hostname", "zone"),
                    "whenUnsatisfiable": of("DoNotSchedule", "ScheduleAnyway"),
                }
            )
        ),
        "volumes": some(NAMED),
    }
    | {name: of(True, 1, "x", None, {}) for name in owned.OF_POD},
)
LABELS = st.dictionaries(
    of("team", "example.com/x", "seesaw.dev/deployment", "app.kubernetes.io/component"),
    of("x", "y"),
    max_size=2,
)
TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"labels": LABELS, "annotations": LABELS}),
        "spec": PODS,
    },
)


def spec_of(num_engines: int, engine: Json | None = None, router: Json | None = None) -> Spec:
    return Spec.model_validate(
        {
            "model": {"uri": "pvc://claim/m"},
            "accelerator": {"count": num_engines},
            "parallelism": {"prefill": {"data": num_engines}, "decode": {"data": num_engines}},
            "engine": {"env": [{"name": "GIVEN", "value": "1"}]}
            | ({} if engine is None else {"podTemplate": engine}),
            "router": {} if router is None else {"podTemplate": router},
        }
    )


def accepted(num_engines: int, engine: Json, router: Json) -> Spec | None:
    try:
        spec = spec_of(num_engines, engine, router)
    except ValidationError:
        return None
    return None if refusals(spec) else spec


def of_kind(spec: Spec, kind: str) -> Json:
    (found,) = (each for each in plan(spec, OWNER, IMAGES, Timing()) if each["kind"] == kind)
    return found


def has_all(items: Any, of_ours: Any) -> bool:
    return all(item in items for item in of_ours)


def check(made: Json, bare: Json, ours: owned.Ours) -> None:
    """``made``: a pod template with what a user has added to ``bare``."""
    assert bare["metadata"]["labels"].items() <= made["metadata"]["labels"].items()
    pod, before = made["spec"], bare["spec"]
    for field in owned.OF_POD:
        assert pod.get(field) == before.get(field), field
    assert has_all(pod.get("volumes", ()), before.get("volumes", ()))
    count = len(before["containers"])
    names = [each["name"] for each in (*pod["containers"], *pod.get("initContainers", ()))]
    assert names[:count] == [each["name"] for each in before["containers"]]
    assert not any(map(ours.has, names[count:]))
    for container, original in zip(pod["containers"], before["containers"], strict=False):
        for field in ("name", "ports", *owned.OF_CONTAINER):
            assert container.get(field) == original.get(field), field
        for field in ("env", "volumeMounts"):
            assert has_all(container.get(field, ()), original.get(field, ())), field
        paths = [posixpath.normpath(m["mountPath"]) for m in container.get("volumeMounts", ())]
        for path in (mount["mountPath"] for mount in original.get("volumeMounts", ())):
            hidden = [p for p in paths if posixpath.commonpath([p, path]) == p]
            assert hidden == [path]
        for part, wanted in original["resources"].items():
            assert wanted.items() <= container["resources"][part].items(), part
    added = (*pod["containers"][count:], *pod.get("initContainers", ()))
    numbers = {port["containerPort"] for each in before["containers"] for port in each["ports"]}
    taken = {port["containerPort"] for each in added for port in each.get("ports") or ()}
    assert not taken & numbers


@settings(max_examples=500, deadline=None)
@given(st.integers(1, 2), TEMPLATES, TEMPLATES)
def test_no_template_that_is_taken_changes_what_the_operator_owns(
    num_engines: int, engine: Json, router: Json
) -> None:
    spec = accepted(num_engines, engine, router)
    event("refused" if spec is None else "taken")
    if spec is None:
        return
    bare = spec_of(num_engines)
    for kind, ours, given_template in (
        ("StatefulSet", owned.ENGINE, spec.engine.pod_template),
        ("Deployment", owned.ROUTER, spec.router.pod_template),
    ):
        made = of_kind(spec, kind)
        original = of_kind(bare, kind)
        template = made["spec"]["template"]
        check(template, original["spec"]["template"], ours)
        assert with_template(template, given_template, ours) == template, "merging twice"
        made["spec"]["template"] = original["spec"]["template"]
        assert made == original, "nothing else depends on it"


@given(TEMPLATES, st.randoms(use_true_random=False))
def test_the_order_in_which_fields_are_written_changes_no_digest(
    template: Json, random: Any
) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            random.shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(each) for each in value] if isinstance(value, list) else value

    one, other = accepted(1, template, {}), accepted(1, shuffled(template), {})
    assert (one is None) == (other is None)
    if one is not None and other is not None:
        assert with_digest(of_kind(one, "StatefulSet")) == with_digest(
            of_kind(other, "StatefulSet")
        )
