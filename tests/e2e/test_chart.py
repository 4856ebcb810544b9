"""The chart on a real cluster: its own test, and an upgrade that is gentle with what runs."""

import time
from pathlib import Path

import pytest

from support.chart_release.helm import CHART, chart_of
from support.cluster_client.kubectl import SYSTEM, Kubectl, helm_install, run

pytestmark = pytest.mark.e2e

OPERATORS = "app.kubernetes.io/name=seesaw-operator,app.kubernetes.io/component!=test"
STAND_IN = {
    "model": {"uri": "stand-in"},
    "accelerator": {"resourceName": "cpu", "count": 2},
    "kvBuffer": {"size": "16Mi"},
    "engine": {"image": "localhost/seesaw-test:1", "resources": {"cpu": "50m", "memory": "128Mi"}},
}


def test_the_releases_own_test_passes(release: Kubectl) -> None:
    assert "Phase:          Succeeded" in run("helm", "test", "seesaw", f"--namespace={SYSTEM}")
    assert release("get", "crd", "seesawdeployments.seesaw.dev")


def test_an_upgrade_from_the_previous_commit_restarts_no_worker_and_no_router(
    kubectl: Kubectl, tmp_path: Path
) -> None:
    helm_install(chart_of("HEAD~1", tmp_path))
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
