"""What the chart renders: valid, taken by the apiserver, restricted, and as its values say."""

import json
from pathlib import Path

import pytest
import yaml

from seesaw_operator.api.crd import KIND, PLURAL, VERSION
from seesaw_operator.api.spec import Spec
from seesaw_operator.flags import settings_of
from seesaw_operator.objects.profiles import read_profiles
from seesaw_operator.settings import OperatorSettings
from support.chart_release.helm import (
    CHART,
    EVERYTHING,
    Json,
    kubectl,
    objects,
    on_server,
    rendered,
    write_schemas,
)
from support.cluster_client.kubectl import ROOT, SYSTEM, run
from support.control_plane.apiserver import ApiServer

ALL = pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["default", "everything"])


@ALL
def test_helm_finds_nothing_to_complain_of(values: Json) -> None:
    given = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
    assert "0 chart(s) failed" in run("helm", "lint", "--strict", str(CHART), *given)


def test_the_helm_that_is_built_here_need_not_be_told_what_kubernetes_there_is() -> None:
    assert "kind: Deployment" in run("helm", "template", "seesaw", str(CHART))


@ALL
def test_all_of_it_is_valid(values: Json, schemas: Json, tmp_path: Path) -> None:
    flag = write_schemas(schemas, tmp_path)
    found = run("kubeconform", "-strict", "-summary", flag, stdin=rendered(values))
    assert "Invalid: 0, Errors: 0, Skipped: 0" in found, found


@ALL
def test_the_apiserver_takes_all_of_it(values: Json, apiserver: ApiServer) -> None:
    kubectl(apiserver, "apply", "--dry-run=server", body=rendered(values))


def admitted(values: Json, server: ApiServer) -> int:
    """Let the apiserver look at each pod that is to be. Raises: AssertionError if it refuses."""
    pods = [b for b in objects(rendered(values)).values() if b["kind"] in ("Deployment", "Pod")]
    for body in pods:
        inside = body["spec"]["template"] if body["kind"] == "Deployment" else body
        spec = inside["spec"] | {"serviceAccountName": "default"}  # it must be there
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
        create = ("create", "--dry-run=server", f"--namespace={SYSTEM}")
        kubectl(server, *create, body=json.dumps(pod))
    return len(pods)


@ALL
def test_each_pod_of_it_is_restricted(values: Json, apiserver: ApiServer) -> None:
    assert admitted(values, apiserver) == 2
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        admitted({"operator": {"securityContext": {"allowPrivilegeEscalation": True}}}, apiserver)


def test_each_object_has_the_common_labels_and_annotations() -> None:
    for name, body in objects(rendered(EVERYTHING)).items():
        metadata = body["metadata"]
        assert metadata["labels"]["team"] == "serving", name
        assert metadata["labels"]["app.kubernetes.io/instance"] == "seesaw", name
        assert metadata["annotations"]["owner"] == "serving", name


def test_a_common_label_changes_no_selector() -> None:
    given = {"app.kubernetes.io/name": "x", "app.kubernetes.io/instance": "y", "z": "z"}
    values = {"commonLabels": given, "operator": {"podLabels": given}}
    found = objects(rendered(values))[f"Deployment {SYSTEM}/seesaw"]["spec"]
    selector = found["selector"]["matchLabels"]
    assert selector == {
        "app.kubernetes.io/name": "seesaw-operator",
        "app.kubernetes.io/instance": "seesaw",
    }
    assert selector.items() <= found["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"fullnameOverride": "other"}, f"{SYSTEM}/other"),
        ({"nameOverride": "llm"}, f"{SYSTEM}/seesaw-llm"),
        ({"namespaceOverride": "elsewhere"}, "elsewhere/seesaw"),
    ],
)
def test_all_names_follow_an_override(values: Json, name: str) -> None:
    found = objects(rendered(EVERYTHING | values))
    args = found[f"Deployment {name}"]["spec"]["template"]["spec"]["containers"][0]["args"]
    settings = settings_from(args)
    assert settings.operator == name
    namespace, _, short = name.partition("/")
    roles = [b for b in found.values() if b["kind"] in ("RoleBinding", "ClusterRoleBinding")]
    assert {(s["namespace"], s["name"]) for b in roles for s in b["subjects"]} == {
        (namespace, short)
    }
    inside = {key.split(" ")[1].partition("/")[0] for key in found} - {"", "one", "two"}
    assert inside == {namespace}
    assert all(short in key for key in found if "seesawdeployments." not in key)


def settings_from(args: list[str]) -> OperatorSettings:
    """What the operator reads of its arguments; the file of profiles is not here."""
    here = [f"--profiles={__file__}" if a.startswith("--profiles=") else a for a in args[1:]]
    return settings_of(here)


def test_the_operator_takes_every_flag_that_the_chart_gives_it() -> None:
    deployment = objects(rendered(EVERYTHING))[f"Deployment {SYSTEM}/seesaw"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    settings = settings_from(container["args"])
    assert (settings.log.level, settings.log.format) == ("debug", "json")
    assert settings.namespaces == ("one", "two")


def test_profiles_reach_the_operator_as_they_are_written_and_restart_it(tmp_path: Path) -> None:
    user = {"spec": {"securityContext": {"runAsUser": None, "runAsGroup": 1234567}}}
    profiles = {"big": {"engine": {"podTemplate": user}}}
    name = f"Deployment {SYSTEM}/seesaw"
    found = objects(rendered({"profiles": profiles}))
    pod = found[name]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    (flag,) = (arg for arg in container["args"] if arg.startswith("--profiles="))
    file = Path(flag.partition("=")[2])
    (mount,) = (m for m in container["volumeMounts"] if m["mountPath"] == str(file.parent))
    (volume,) = (v for v in pod["spec"]["volumes"] if v["name"] == mount["name"])
    text = found[f"ConfigMap {SYSTEM}/{volume['configMap']['name']}"]["data"][file.name]
    assert json.loads(text) == profiles
    (tmp_path / "p.json").write_text(text)
    assert list(read_profiles(tmp_path / "p.json")) == ["big"]
    profiles["big"]["engine"]["podTemplate"] = {}
    changed = objects(rendered({"profiles": profiles}))[name]["spec"]["template"]
    assert changed["metadata"]["annotations"] != pod["metadata"]["annotations"]
    assert "annotations" not in objects(rendered())[name]["spec"]["template"]["metadata"]


def test_who_brings_an_account_and_rights_gets_none() -> None:
    values = {"rbac": {"create": False}, "serviceAccount": {"create": False, "name": "mine"}}
    found = objects(rendered(values))
    kinds = {body["kind"] for body in found.values()}
    assert not kinds & {"ServiceAccount", "Role", "RoleBinding", "ClusterRole"}
    assert "ClusterRoleBinding" not in kinds
    pod = found[f"Deployment {SYSTEM}/seesaw"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "mine"


def test_several_operators_are_spread_and_one_goes_at_a_time() -> None:
    found = objects(rendered({"operator": {"replicas": 2}}))
    pod = found[f"Deployment {SYSTEM}/seesaw"]["spec"]["template"]
    (spread,) = pod["spec"]["topologySpreadConstraints"]
    budget = found[f"PodDisruptionBudget {SYSTEM}/seesaw"]["spec"]
    for selector in (spread["labelSelector"], budget["selector"]):
        assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert f"PodDisruptionBudget {SYSTEM}/seesaw" not in objects(rendered())


def test_a_digest_stands_where_a_tag_may() -> None:
    digest = "sha256:" + "0a" * 32
    text = rendered({"images": {"tag": digest, "router": "team/router:1"}})
    assert f"image: seesaw-operator@{digest}" in text
    assert f"--worker-image=seesaw-worker@{digest}" in text
    assert "--router-image=team/router:1\n" in text


def test_the_notes_tell_what_is_left_to_do(apiserver: ApiServer) -> None:
    values = {
        "watchNamespaces": ["one", "two"],
        "rbac": {"create": False},
        "monitoring": {"rules": {"enabled": True}},
    }
    dry = ("install", "seesaw", str(CHART), "--dry-run=server")
    told = on_server(apiserver, *dry, values=values).partition("NOTES:")[2]
    assert "looks after one, two." in told
    assert told.count("NOTE: ") == 2
    assert "NOTE: " not in on_server(apiserver, *dry).partition("NOTES:")[2]


def test_the_manifests_without_helm_are_what_the_chart_renders() -> None:
    text = rendered(None, CHART, "--skip-tests", "--set=crd.install=false")
    assert (ROOT / "manifests/base/operator.yaml").read_text() == text, "run `make docs`"


def test_what_the_chart_says_of_its_resource_is_true() -> None:
    annotations = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]
    (crd,) = yaml.safe_load(annotations["artifacthub.io/crds"])
    assert (crd["kind"], crd["version"], crd["name"]) == (KIND, VERSION, f"{PLURAL}.seesaw.dev")
    for example in yaml.safe_load(annotations["artifacthub.io/crdsExamples"]):
        assert example["kind"] == KIND
        Spec.model_validate(example["spec"])
