"""Elastic instances in a pod: real vLLM, tokens as plain vLLM's, and a rank that dies."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seesaw_core.layouts import Layout
from seesaw_worker.modes.static.reference import Sample, plain_tokens
from seesaw_worker.synthetic import TINY
from support.cluster_client.kubectl import Json, Kubectl
from support.cluster_client.models import ENGINE, FLAGS, LOADED_S, MAX_LEN, claim_models

pytestmark = pytest.mark.e2e

TOKEN_BYTES = 2 * TINY.num_kv_heads * TINY.head_dim * TINY.num_layers * 4
KV_BYTES = 640 * TOKEN_BYTES  # of an instance, so that a longer prompt takes both
SPEC: Json = {
    "model": {"uri": "pvc://models/llama", "name": "llama", "maxModelLen": MAX_LEN},
    "accelerator": {"resourceName": "cpu", "count": 2},
    "parallelism": {"mode": "Elastic", "elastic": {"instances": 2}},
    "engine": {
        "extraArgs": [*FLAGS, f"--kv-cache-memory-bytes={KV_BYTES}", "--elastic-timeout-s=30"],
        "resources": {"cpu": "50m", "memory": "3Gi"},
    },
}
GREEDY = {"temperature": 0.0, "ignore_eos": True}
# Runs in the pod: kills a rank as soon as that many requests run, and prints its number.
KILL_ONE = """
import json, sys, time, urllib.request, psutil
while True:
    with urllib.request.urlopen("http://localhost:8000/seesaw/state") as answer:
        if json.load(answer)["elastic"]["num_running"] >= int(sys.argv[1]):
            break
    time.sleep(0.02)
ranks = [p for p in psutil.process_iter() if "".join(p.cmdline()[:1]).startswith("VLLM::Worker")]
assert len(ranks) == 2, [p.cmdline() for p in psutil.process_iter()]
ranks[1].kill()
print(ranks[1].pid)
"""


def samples(*lengths: int, max_tokens: int) -> list[Sample]:
    return [
        Sample(
            prompt=[(7 * n + 13 * i) % 890 + 10 for i in range(n)],
            params=GREEDY | {"max_tokens": max_tokens},
        )
        for n in lengths
    ]


def test_elastic_instances_serve_in_a_pod_and_one_that_dies_costs_no_request(
    kubectl: Kubectl, model: Path, tmp_path: Path
) -> None:
    claim_models(kubectl, model)
    kubectl.deploy("rings", SPEC)
    kubectl.until_ready("rings", LOADED_S)
    asked = [
        samples(2, 33, 64, 300, 900, max_tokens=16),
        samples(40, 41, 42, 43, max_tokens=150),
    ]
    expected = plain_tokens(model, Layout(), [*asked[0], *asked[1]], ENGINE, tmp_path)
    assert ask(kubectl, "first", asked[0]) == expected[: len(asked[0])]

    def has_degrees() -> bool:
        return {each["degree"] for each in figures(kubectl).get("iterations", ())} == {1, 2}

    kubectl.until(has_degrees, 30, lambda: json.dumps(kubectl.status("rings"), indent=1))
    found = figures(kubectl)
    assert (found["instances"], found["lostInstances"]) == ("2/2", 0)
    assert len(found["workers"][0]["kvUsedPercent"]) == 2
    print(kubectl("get", "ssd", "rings", "-o", "wide"), json.dumps(found))
    row = kubectl("get", "ssd", "rings", "-o", "wide").splitlines()[1].split()
    assert row[:5] == ["rings", "True", "1/1", "2×T1", "2×T1"]
    assert "2/2" in row

    pod = kubectl.pods("rings", "worker")[0]["metadata"]["name"]
    with ThreadPoolExecutor() as threads:
        answers = threads.submit(ask, kubectl, "second", asked[1])
        kubectl("exec", pod, "--", "python3", "-c", KILL_ONE, str(len(asked[1])))
        assert answers.result() == expected[len(asked[0]) :]

    def is_degraded() -> bool:
        return kubectl.condition("rings", "Degraded").get("reason") == "InstancesLost"

    kubectl.until(is_degraded, 30, lambda: json.dumps(kubectl.status("rings"), indent=1))
    print(kubectl.condition("rings", "Degraded")["message"])
    assert figures(kubectl)["instances"] == "1/2"
    assert kubectl.condition("rings", "Ready")["status"] == "True"
    told = kubectl("get", "events", "--field-selector=reason=InstancesLost", "-o", "name")
    assert len(told.split()) == 1
    (worker,) = kubectl.pods("rings", "worker")
    assert worker["status"]["containerStatuses"][0]["restartCount"] == 0

    kubectl("delete", "ssd", "rings")
    kinds = "all,serviceaccounts,poddisruptionbudgets,roles,rolebindings,configmaps"

    def is_gone() -> bool:
        return not kubectl("get", kinds, "-l", "seesaw.dev/deployment=rings", "-o", "name")

    kubectl.until(is_gone, 120, lambda: kubectl("get", kinds))


def figures(kubectl: Kubectl) -> Json:
    found: Json = kubectl.status("rings").get("measured", {}).get("elastic", {})
    return found


def ask(kubectl: Kubectl, client: str, asked: list[Sample]) -> list[list[int]]:
    """Return the tokens, asked for by the official client through the routers' Service."""
    url = f"http://rings.{kubectl.namespace}.svc.cluster.local/v1"
    stdin = json.dumps([{"prompt": s.prompt, "params": s.params} for s in asked])
    answers = json.loads(
        kubectl.client(client, "python3", "/app/ask.py", url, "llama", stdin=stdin)
    )
    assert answers["streamed"] == answers["whole"]
    tokens: list[list[int]] = answers["whole"]
    return tokens
