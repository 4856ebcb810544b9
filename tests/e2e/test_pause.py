"""A pause: pods stay as they are, and come back as they were, until it ends."""

import json

import pytest

from support.cluster_client.kubectl import IMAGES, Json, Kubectl

pytestmark = pytest.mark.e2e

OLD, NEW = f"{IMAGES}seesaw-test:1", f"{IMAGES}seesaw-test:2"
SPEC: Json = {
    "model": {"uri": "stand-in"},
    "accelerator": {"resourceName": "cpu", "count": 2},
    "kvBuffer": {"size": "16Mi"},
    "engine": {"image": OLD, "resources": {"cpu": "50m", "memory": "128Mi"}},
    "timing": {"drainSeconds": 20},
    "paused": True,
}


def test_what_is_paused_changes_no_pod_until_the_pause_ends(kubectl: Kubectl) -> None:
    kubectl.deploy("calm", SPEC)
    kubectl.until_ready("calm")  # the first pods are made all the same
    (worker,), (router,) = (kubectl.pods("calm", part) for part in ("worker", "router"))

    def told() -> str:
        return json.dumps(kubectl.status("calm"), indent=1)

    def is_paused() -> bool:
        return kubectl.condition("calm", "Ready").get("reason") == "Paused"

    def uids() -> set[str]:
        parts = (kubectl.pods("calm", part) for part in ("worker", "router"))
        return {pod["metadata"]["uid"] for pods in parts for pod in pods}

    before = uids()
    patch(kubectl, {"engine": {"image": NEW}, "waves": {"maxWait": "2s"}})
    kubectl.until(is_paused, 60, told)
    assert kubectl.condition("calm", "Available")["status"] == "True"
    assert uids() == before
    kubectl("delete", "pod", worker["metadata"]["name"])
    kubectl("delete", "pod", router["metadata"]["name"])
    kubectl.until(lambda: len(uids()) == 2 and not uids() & before and is_paused(), 120, told)
    (again,) = kubectl.pods("calm", "worker")
    assert again["spec"]["containers"][0]["image"] == OLD
    (again,) = kubectl.pods("calm", "router")
    assert "--max-wait-s=10" in again["spec"]["containers"][0]["args"]
    patch(kubectl, {"paused": False})
    kubectl.until_ready("calm")
    (last,) = kubectl.pods("calm", "worker")
    assert last["spec"]["containers"][0]["image"] == NEW
    assert last["spec"]["terminationGracePeriodSeconds"] < 60


def patch(kubectl: Kubectl, spec: Json) -> None:
    kubectl("patch", "ssd", "calm", "--type=merge", "-p", json.dumps({"spec": spec}))
