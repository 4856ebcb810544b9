"""What ``kubectl wait`` and the conditions tell a pipeline of good and broken rollouts."""

import pytest

from support.cluster_client.kubectl import IMAGES, Json, Kubectl

pytestmark = pytest.mark.e2e

OLD, NEW, NONE = (f"{IMAGES}seesaw-test:{tag}" for tag in ("1", "2", "no-such-tag"))
SPEC: Json = {
    "model": {"uri": "stand-in"},
    "replicas": 2,
    "accelerator": {"resourceName": "cpu", "count": 2},
    "kvBuffer": {"size": "16Mi"},
    "engine": {"image": OLD, "resources": {"cpu": "50m", "memory": "128Mi"}},
    "timing": {"drainSeconds": 20, "progressSeconds": 20},
}
READY = ("wait", "ssd/calm", "--for=condition=Ready")


def test_a_wait_for_ready_ends_with_a_rollout_and_never_before(kubectl: Kubectl) -> None:
    kubectl.deploy("calm", SPEC)
    kubectl(*READY, "--timeout=120s")
    assert images(kubectl) == [OLD, OLD]

    kubectl.deploy("calm", with_image(NEW))
    kubectl(*READY, "--timeout=180s")
    assert images(kubectl) == [NEW, NEW]

    kubectl.deploy("calm", with_image(NONE))
    with pytest.raises(AssertionError, match="timed out"):
        kubectl(*READY, "--timeout=10s")
    kubectl("wait", "ssd/calm", "--for=condition=Stalled", "--timeout=90s")
    found = {kind: kubectl.condition("calm", kind) for kind in KINDS}
    assert {kind: c["status"] for kind, c in found.items()} == KINDS, {
        k: c.get("reason") for k, c in found.items()
    }
    assert found["Degraded"]["reason"] == "ImagePullFailed"
    assert NONE in found["Degraded"]["message"]

    kubectl.deploy("calm", with_image(NEW))
    kubectl(*READY, "--timeout=120s")
    assert images(kubectl) == [NEW, NEW]


# Of a rollout to an image that is not there: the replica that is left serves, and nothing moves.
KINDS = {
    "Accepted": "True",
    "WorkersReady": "False",
    "RouterReady": "True",
    "Available": "True",
    "Ready": "False",
    "Reconciling": "False",
    "Stalled": "True",
    "Degraded": "True",
}


def with_image(image: str) -> Json:
    return SPEC | {"engine": SPEC["engine"] | {"image": image}}


def images(kubectl: Kubectl) -> list[str]:
    return [pod["spec"]["containers"][0]["image"] for pod in kubectl.pods("calm", "worker")]
