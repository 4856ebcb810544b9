"""Profiles: what is read at the start, what is refused then, and what a resource makes of one."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from seesaw_core.errors import InputError
from seesaw_operator.objects.profiles import profiles_of, read_profiles
from seesaw_operator.objects.validation import validated_spec
from support.pod_templates.samples import FOR_ENGINE, FOR_ROUTER, IMAGES, OWNER
from support.resource_status.built import built

Json = dict[str, Any]

SPEC: Json = {"model": {"uri": "org/model"}}
NAMED = SPEC | {"profile": "big"}


def profile(engine: Json | None = None, router: Json | None = None) -> str:
    parts = {"engine": engine, "router": router}
    return json.dumps({"big": {k: {"podTemplate": v} for k, v in parts.items() if v is not None}})


def of_engine(**fields: Any) -> Json:
    return {"spec": {"containers": [{"name": "engine"} | fields]}}


def pods(spec: Json, shared: str = "{}") -> tuple[Json, Json]:
    """Of workers and routers."""
    taken = validated_spec(copy.deepcopy(spec), profiles_of(shared))
    made = {each["kind"]: each for each in built(taken, OWNER, IMAGES)}
    workers, routers = (made[kind]["spec"]["template"] for kind in ("StatefulSet", "Deployment"))
    return workers, routers


def test_a_profile_alone_is_as_if_the_resource_had_said_it_itself() -> None:
    own = {"engine": {"podTemplate": FOR_ENGINE}, "router": {"podTemplate": FOR_ROUTER}}
    assert pods(NAMED, profile(FOR_ENGINE, FOR_ROUTER)) == pods(SPEC | own)
    assert pods(SPEC, profile(FOR_ENGINE, FOR_ROUTER)) == pods(SPEC), "it is not named"


def test_the_resource_has_the_last_word_and_the_rest_of_the_profile_stays() -> None:
    shared = of_engine(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "1"}])
    shared["metadata"] = {"labels": {"team": "all", "tier": "gpu"}}
    own = of_engine(env=[{"name": "A", "value": "2"}, {"name": "C", "value": "2"}])
    own["metadata"] = {"labels": {"team": "search"}}
    workers, _ = pods(NAMED | {"engine": {"podTemplate": own}}, profile(shared))
    env = {e["name"]: e["value"] for e in workers["spec"]["containers"][0]["env"]}
    assert {name: env[name] for name in "ABC"} == {"A": "2", "B": "1", "C": "2"}
    assert {"team": "search", "tier": "gpu"}.items() <= workers["metadata"]["labels"].items()


@pytest.mark.parametrize(("shared", "own"), [(None, 7), (7, None)])
def test_null_takes_away_what_is_below_and_a_value_above_puts_it_back(
    shared: int | None, own: int | None
) -> None:
    below, above = ({"spec": {"securityContext": {"runAsUser": user}}} for user in (shared, own))
    workers, _ = pods(NAMED | {"engine": {"podTemplate": above}}, profile(below))
    assert workers["spec"]["securityContext"].get("runAsUser") == own
    bare, _ = pods(NAMED, profile({"spec": {"securityContext": {"runAsUser": None}}}))
    assert "runAsUser" not in bare["spec"]["securityContext"]


def test_an_unknown_profile_is_named_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"^spec\.profile: .*'small' \(it has: big\)\. .*chart"):
        validated_spec(SPEC | {"profile": "small"}, profiles_of(profile({})))
    with pytest.raises(InputError, match=r"it has: none"):
        validated_spec(NAMED, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "JSON"),
        ('{"a": {}, "a": {}}', "'a' is there twice"),
        ('{"A_b": {}}', "A_b"),
        ('{"big": {"engin": {}}}', "big.engin: there is no such field"),
        ('{"big": {"engine": {"image": "x"}}}', "big.engine.image: there is no such field"),
        (profile({"spec": {"hostUsers": "yes"}}), "podTemplate.spec.hostUsers: .*'yes'"),
        (profile({"spec": {"hostNetwork": True}}), "spec.hostNetwork: .*share nothing"),
        (profile({"spec": {"service_account_name": "x"}}), "service_account_name: there is no"),
        (profile({"spec": {"volumes": [{"name": "d"}] * 2}}), 'volumes: .*"d".* twice'),
        (profile({"metadata": {"labels": {"seesaw.dev/x": "y"}}}), "seesaw.dev/x cannot be set"),
        (profile(of_engine(env=[{"name": "HOME"}])), r"containers\[engine\].env: HOME is set"),
        (profile(of_engine(image="x")), r"containers\[engine\].image: it is made of"),
        (profile(of_engine(resources={"limits": {"cpu": 1}})), "cpu is made of"),
        (profile({"spec": {"containers": [{"name": "x"}]}}), "needs an image"),
        (profile({"spec": {"tolerations": [{"value": "x"}]}}), "operator must be Exists"),
        (profile({"metadata": {"annotations": {"seesaw.dev": "x"}}}), "seesaw.dev cannot be set"),
        (profile({"metadata": {"annotations": {"a b": "x"}}}), "'a b' is no key"),
        (profile({"spec": {"affinity": {"$patch": "delete"}}}), "directives are not read"),
        (
            profile(
                {
                    "spec": {
                        "containers": [
                            {"name": "x", "image": "x", "ports": [{"containerPort": 8000}]}
                        ]
                    }
                }
            ),
            "8000 is a port of ours",
        ),
        (profile(router={"spec": {"automountServiceAccountToken": False}}), "router.*its token"),
    ],
)
def test_what_no_resource_could_have_is_refused_at_the_start_by_file_profile_and_field(
    text: str, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "profiles.json"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"^--profiles={file}: .*{says}.*Correct it \(in the"):
        read_profiles(file)


def test_a_file_that_is_not_there_or_too_large_is_refused_and_none_is_no_profile(
    tmp_path: Path,
) -> None:
    assert read_profiles(None) == {}
    with pytest.raises(InputError, match=r"^--profiles=.*No such file"):
        read_profiles(tmp_path / "none")
    (tmp_path / "large").write_text(" " * (2**20 + 1))
    with pytest.raises(InputError, match=r"^--profiles=.*more than 1048576 bytes"):
        read_profiles(tmp_path / "large")


@pytest.mark.parametrize(
    ("shared", "more", "says"),
    [
        (
            of_engine(resources={"limits": {"nvidia.com/gpu": 4}}),
            {},
            r"spec\.engine\.podTemplate.*made of accelerator \(with profile 'big'\)",
        ),
        (
            {"spec": {"tolerations": [{"operator": "Exists"}]}},
            {"engine": {"tolerations": [{"key": "a"}]}},
            r"engine\.tolerations are given as well.*\(with profile 'big'\)",
        ),
        (
            {"spec": {"containers": [{"name": f"a{i}", "image": "x"} for i in range(9)]}},
            {
                "engine": {
                    "podTemplate": {
                        "spec": {"containers": [{"name": f"b{i}", "image": "x"} for i in range(9)]}
                    }
                }
            },
            r"profile 'big' with that of the resource: spec\.containers: .*16",
        ),
    ],
)
def test_what_only_a_resource_makes_wrong_is_refused_there_and_names_the_profile(
    shared: Json, more: Json, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        validated_spec(NAMED | more, profiles_of(profile(shared)))


def test_what_the_resource_got_wrong_itself_is_not_put_on_the_profile() -> None:
    own = of_engine(resources={"limits": {"nvidia.com/gpu": 4}})
    with pytest.raises(InputError) as refused:
        validated_spec(NAMED | {"engine": {"podTemplate": own}}, profiles_of(profile({})))
    assert "big" not in str(refused.value)
