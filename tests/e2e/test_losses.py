"""Steady load while pods go, images change and replicas come and go: no request fails.

An engine stands in for vLLM that passes the worker's own HTTP contract suite
(tests/integration/router/test_worker_contract.py).
"""

import json
import time
from typing import Any

import pytest

from support.cluster_client.kubectl import IMAGES, SYSTEM, Json, Kubectl

pytestmark = pytest.mark.e2e

PER_S = 20
SPEC: Json = {
    "model": {"uri": "stand-in"},
    "accelerator": {"resourceName": "cpu", "count": 2},
    "replicas": 2,
    "kvBuffer": {"size": "16Mi"},
    "engine": {
        "image": f"{IMAGES}seesaw-test:1",
        "resources": {"cpu": "50m", "memory": "128Mi"},
    },
    "router": {"replicas": 2},
}


def test_no_request_fails_whatever_pod_goes(kubectl: Kubectl) -> None:
    kubectl.deploy("busy", SPEC)
    kubectl.until_ready("busy")
    url = f"http://busy.{kubectl.namespace}.svc/v1"
    kubectl.run_pod("load", ["python3", "/app/load.py", url, "busy", str(PER_S)])
    kubectl("wait", "--for=condition=Ready", "pod/load", "--timeout=60s")
    flow(kubectl)

    def is_whole() -> bool:
        status = kubectl.status("busy")
        return (status["readyReplicas"], status["routerReplicas"]) == (2, 2) and all(
            len(kubectl.pods("busy", part)) == 2 for part in ("worker", "router")
        )

    def wait_until_whole(what: str) -> None:
        took_s = kubectl.until(is_whole, 120, lambda: json.dumps(kubectl.status("busy")))
        print(f"{what}: whole again after {took_s:.1f} s; {flow(kubectl)}")

    for part in ("worker", "router"):
        name = kubectl.pods("busy", part)[0]["metadata"]["name"]
        kubectl("delete", "pod", name)
        wait_until_whole(f"a {part} deleted")
    system = Kubectl(SYSTEM)
    system("delete", "pod", "-l", "app.kubernetes.io/name=seesaw-operator")
    system("rollout", "status", "deployment", "--timeout=60s")
    print(f"the operator deleted; {flow(kubectl)}")

    watched = Rollout(kubectl)
    image = {"spec": {"engine": {"image": f"{IMAGES}seesaw-test:2"}}}
    kubectl("patch", "ssd", "busy", "--type=merge", "-p", json.dumps(image))
    watched.until_image("busy", f"{IMAGES}seesaw-test:2")
    wait_until_whole("another image")
    assert watched.fewest_ready >= 1
    assert watched.most_pods <= 2, "no pod more than there are devices for"

    for count in (1, 2):
        kubectl("scale", "ssd", "busy", f"--replicas={count}")

        def has_count(count: int = count) -> bool:
            status = kubectl.status("busy")
            return (status["replicas"], status["readyReplicas"]) == (count, count)

        kubectl.until(has_count, 60, lambda: json.dumps(kubectl.status("busy")))
        print(f"scaled to {count}; {flow(kubectl)}")
    assert flow(kubectl)["cut"] == 0, "whatever goes gently lets its streams end"
    worker = kubectl.pods("busy", "worker")[0]["metadata"]["name"]
    kubectl("delete", "pod", worker, "--grace-period=0", "--force")
    wait_until_whole("a worker deleted without grace")
    total = flow(kubectl)
    assert total["failed"] == 0, total
    assert total["streams"] > 20, total
    kubectl("delete", "pod", "load", "--grace-period=1")


def flow(kubectl: Kubectl) -> dict[str, Any]:
    """Counts of the load generator, which must have gone on."""
    before = counts(kubectl)
    kubectl.until(lambda: counts(kubectl)["ok"] > before["ok"] + PER_S, 30, lambda: str(before))
    now = counts(kubectl)
    assert now["failed"] == 0, now
    return now


def counts(kubectl: Kubectl) -> dict[str, Any]:
    lines = kubectl("logs", "load", "--tail=1").splitlines()
    return {"ok": 0, "failed": 0, "streams": 0, "cut": 0} | (json.loads(lines[-1]) if lines else {})


class Rollout:
    """What was there at each moment of a rollout."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl
        self.fewest_ready, self.most_pods = 99, 0

    def until_image(self, name: str, image: str, timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            pods = self._kubectl.pods(name, "worker")
            ready = [p for p in pods if is_ready(p)]
            self.fewest_ready = min(self.fewest_ready, len(ready))
            self.most_pods = max(self.most_pods, len(pods))
            images = {p["spec"]["containers"][0]["image"] for p in ready}
            if len(ready) == len(pods) == 2 and images == {image}:
                return
            assert time.monotonic() < deadline, self._kubectl("get", "pods", "-o", "wide")
            time.sleep(0.2)


def is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
