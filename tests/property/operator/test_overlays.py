"""Whatever the rules let through leaves all that the operator owns as it makes it."""

import json
import posixpath
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from seesaw_core.errors import InputError
from seesaw_operator.api import owned
from seesaw_operator.api.spec import Spec
from seesaw_operator.loop.drift import with_digest
from seesaw_operator.objects.merging import with_template
from seesaw_operator.objects.overlays import refusals
from seesaw_operator.objects.profiles import profiles_of
from seesaw_operator.objects.validation import validated_spec
from support.pod_templates.generated import TEMPLATES
from support.pod_templates.samples import IMAGES, OWNER
from support.resource_status.built import built

Json = dict[str, Any]


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
    (found,) = (each for each in built(spec, OWNER, IMAGES) if each["kind"] == kind)
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


@settings(max_examples=500, deadline=None)
@given(TEMPLATES, TEMPLATES, TEMPLATES, TEMPLATES)
def test_no_profile_with_any_template_over_it_changes_what_the_operator_owns(
    shared: Json, shared_router: Json, engine: Json, router: Json
) -> None:
    bare = spec_of(1)
    written = bare.model_dump(mode="json", by_alias=True, exclude_unset=True)
    written["profile"] = "p"
    written["engine"]["podTemplate"] = engine
    written["router"] = {"podTemplate": router}
    profile = {"engine": {"podTemplate": shared}, "router": {"podTemplate": shared_router}}
    try:
        profiles = profiles_of(json.dumps({"p": profile}))
    except InputError:
        event("profile refused")
        return
    try:
        spec = validated_spec(written, profiles)
    except InputError:
        event("resource refused")
        return
    event("taken")
    for kind, ours in (("StatefulSet", owned.ENGINE), ("Deployment", owned.ROUTER)):
        made, original = (of_kind(each, kind)["spec"]["template"] for each in (spec, bare))
        check(made, original, ours)


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
