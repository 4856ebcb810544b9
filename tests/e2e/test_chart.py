"""The chart: sound by itself, and gentle with what runs when it is upgraded."""

import io
import json
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from cluster_client.kubectl import ROOT, SYSTEM, Kubectl, helm_install, run
from seesaw_operator.api.crd import document

pytestmark = pytest.mark.e2e

OPERATORS = "app.kubernetes.io/name=seesaw-operator,app.kubernetes.io/component!=test"
CHART = ROOT / "charts/seesaw"
STAND_IN = {
    "model": {"uri": "stand-in"},
    "accelerator": {"resourceName": "cpu", "count": 2},
    "kvBuffer": {"size": "16Mi"},
    "engine": {"image": "localhost/seesaw-test:1", "resources": {"cpu": "50m", "memory": "128Mi"}},
}


def template(*more: str) -> str:
    given = (f"--namespace={SYSTEM}", "--kube-version=1.30.0")
    return run("helm", "template", "seesaw", str(CHART), *given, *more)


def test_helm_finds_nothing_to_complain_of() -> None:
    assert "0 chart(s) failed" in run("helm", "lint", "--strict", str(CHART))


def test_what_it_renders_is_valid_kubernetes(release: Kubectl, tmp_path: Path) -> None:
    rendered = template()
    write_schemas(release, tmp_path)
    where = f"-schema-location={tmp_path}/{{{{ .ResourceKind }}}}.json"
    found = run("kubeconform", "-strict", "-summary", where, stdin=rendered)
    assert "Invalid: 0, Errors: 0, Skipped: 0" in found, found


def write_schemas(kubectl: Kubectl, folder: Path) -> None:
    """The apiserver's own schemas, as kubeconform reads them: a file a kind, nothing unknown."""
    definitions = json.loads(kubectl("get", "--raw", "/openapi/v2"))["definitions"]
    for schema in definitions.values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        if schema.get("format") == "int-or-string":
            schema["type"] = ["integer", "string"]
    text = json.dumps({"definitions": definitions}).replace(
        '"#/definitions/', f'"file://{folder}/all.json#/definitions/'
    )
    (folder / "all.json").write_text(text)
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            file = folder / f"{kind['kind'].lower()}.json"
            file.write_text(json.dumps({"$ref": f"file://{folder}/all.json#/definitions/{name}"}))


def test_the_apiserver_takes_everything_that_it_renders(release: Kubectl) -> None:
    rendered = template()
    release("apply", "--dry-run=server", "-f", "-", stdin=rendered)


def test_a_value_that_it_does_not_know_is_refused() -> None:
    with pytest.raises(AssertionError, match="additional properties 'oprator' not allowed"):
        template("--set=oprator.x=1")


def test_the_manifests_are_what_the_code_and_the_chart_say() -> None:
    assert (ROOT / "manifests/base/crd.yaml").read_text() == document()
    rendered = template("--skip-tests", "--set=crd.install=false")
    assert (ROOT / "manifests/base/operator.yaml").read_text() == rendered, "run `make docs`"


def test_the_releases_own_test_passes(release: Kubectl) -> None:
    assert "Phase:          Succeeded" in run("helm", "test", "seesaw", f"--namespace={SYSTEM}")
    assert release("get", "crd", "seesawdeployments.seesaw.dev")


def test_an_upgrade_from_the_previous_commit_restarts_no_worker_and_no_router(
    kubectl: Kubectl, tmp_path: Path
) -> None:
    helm_install(previous_chart(tmp_path))
    kubectl.deploy("calm", STAND_IN)
    kubectl.until_ready("calm")
    before = generations(kubectl)
    helm_install(CHART)
    system = Kubectl(SYSTEM)
    system("rollout", "restart", "deployment/seesaw")  # the images may be the same: lead anew
    system("rollout", "status", "deployment/seesaw", "--timeout=60s")

    def leads() -> bool:
        pods = system.get("pods", "-l", OPERATORS)["items"]
        holder = system.get("lease", "seesaw")["spec"].get("holderIdentity", "")
        return [holder.startswith(p["metadata"]["name"]) for p in pods] == [True]

    system.until(leads, 60, lambda: system("get", "pods,lease"))
    time.sleep(5.0)  # what it would change, it changes at once
    assert generations(kubectl) == before


def generations(kubectl: Kubectl) -> dict[str, tuple[str, int]]:
    """Pods by their ids, and what they are made of by its generation."""
    found = kubectl.get("pods,statefulsets,deployments")["items"]
    return {
        f"{o['kind']} {o['metadata']['name']}": (
            o["metadata"]["uid"],
            o["metadata"].get("generation", 0) if o["kind"] != "Pod" else 0,
        )
        for o in found
    }


def previous_chart(folder: Path) -> Path:
    """The chart of the commit before this one; this one's where there is none."""
    command = ["git", "-C", str(ROOT), "archive", "HEAD~1", "charts/seesaw"]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        return CHART
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "charts/seesaw"
