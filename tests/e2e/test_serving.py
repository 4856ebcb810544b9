"""Real vLLM in pods: it re-shards, its tokens are plain vLLM's, and bad input is explained."""

import json
from functools import partial
from pathlib import Path

import pytest

from seesaw_core.layouts import Layout
from seesaw_worker.modes.static.reference import Sample, plain_tokens
from support.cluster_client.kubectl import Json, Kubectl
from support.cluster_client.models import ENGINE, FLAGS, LOADED_S, MAX_LEN, claim_models

pytestmark = pytest.mark.e2e

SPEC: Json = {
    "model": {"uri": "pvc://models/llama", "name": "llama", "maxModelLen": MAX_LEN},
    "accelerator": {"resourceName": "cpu", "count": 2},
    "parallelism": {"prefill": {"pipeline": 2}, "decode": {"tensor": 2}},
    "reshard": "Always",
    "kvBuffer": {"size": "32Mi"},
    "waves": {"maxWait": "1s"},
    "engine": {
        "extraArgs": FLAGS,
        "resources": {"cpu": "50m", "memory": "8Gi"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    },
}


def samples() -> list[Sample]:
    lengths = (2, 31, 32, 33, 64, 100, 200, 500)
    return [
        Sample(
            prompt=[(7 * n + 13 * i) % 890 + 10 for i in range(n)],
            params={"temperature": 0.0, "max_tokens": 16, "ignore_eos": True}
            if n % 2
            else {"temperature": 0.9, "seed": n, "max_tokens": 16, "ignore_eos": True},
        )
        for n in lengths
    ]


def test_real_vllm_reshards_in_its_pod_and_answers_as_plain_vllm_does(
    kubectl: Kubectl, model: Path, tmp_path: Path
) -> None:
    claim_models(kubectl, model)
    kubectl.deploy("real", SPEC)
    kubectl.until_ready("real", LOADED_S)
    before = num_transitions(kubectl)
    asked = json.dumps([{"prompt": s.prompt, "params": s.params} for s in samples()])
    url = f"http://real.{kubectl.namespace}.svc.cluster.local/v1"
    answers = json.loads(
        kubectl.client("client", "python3", "/app/ask.py", url, "llama", stdin=asked)
    )
    expected = plain_tokens(model, Layout(tensor=2), samples(), ENGINE, tmp_path)
    assert answers["whole"] == expected
    assert answers["streamed"] == expected

    def has_grown() -> bool:
        return num_transitions(kubectl) >= before + 4

    kubectl.until(has_grown, 30, lambda: json.dumps(kubectl.status("real")))
    row = kubectl("get", "ssd", "real").splitlines()[1].split()
    print(kubectl("get", "ssd", "real"))
    assert row[:5] == ["real", "True", "1/1", "P2", "T2"]
    measured = kubectl.status("real")["measured"]
    assert measured["tokensPerSecond"] > 0, measured
    pod = kubectl.pods("real", "worker")[0]["metadata"]["name"]
    took_s = kubectl.until(lambda: drained(kubectl, pod), 60, lambda: "it did not drain")
    print(f"drained and gone after {took_s:.1f} s")


def num_transitions(kubectl: Kubectl) -> int:
    """As the status tells, which follows the worker by a second or two."""
    return int(kubectl.status("real").get("measured", {}).get("transitions", 0))


def drained(kubectl: Kubectl, pod: str) -> bool:
    kubectl("delete", "pod", pod, "--wait=false", check=False)
    return pod not in kubectl("get", "pods", "--field-selector=status.phase=Running", "-o", "name")


BAD: dict[str, tuple[Json, str, list[str]]] = {
    "no-model": (
        {"model": {"uri": "pvc://models/nowhere"}},
        "InvalidInput",
        ["/models/nowhere", "no such folder"],
    ),
    "heads": (
        {
            "accelerator": {"count": 3, "resourceName": "cpu"},
            "parallelism": {"prefill": {"pipeline": 3}, "decode": {"tensor": 3}},
        },
        "InvalidInput",
        ["3"],
    ),
    "pool": (
        {
            "parallelism": {"mode": "Elastic", "elastic": {"instances": 2}},
            "reshard": "Auto",
            "engine": SPEC["engine"] | {"extraArgs": [*FLAGS, "--kv-cache-memory-bytes=1048576"]},
        },
        "InvalidInput",
        ["is beyond the pool: 2 instances", "--max-model-len is model.maxModelLen"],
    ),
    "image": (
        {"engine": {"image": "localhost/nobody:1", "resources": {"cpu": "50m", "memory": "1Gi"}}},
        "ImagePullFailed",
        ["localhost/nobody:1", "engine.image"],
    ),
    "devices": (
        {"accelerator": {"resourceName": "example.com/gpu", "count": 2}},
        "Unschedulable",
        ["example.com/gpu", "accelerator.count"],
    ),
    "node": (
        {"engine": SPEC["engine"] | {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}}},
        "Unschedulable",
        ["selector", "engine.nodeSelector"],
    ),
    "buffer": (
        {
            "kvBuffer": {"size": "900Mi"},
            "engine": SPEC["engine"] | {"resources": {"cpu": "50m", "memory": "901Mi"}},
        },
        "OutOfMemory",
        ["engine.resources.memory", "kvBuffer.size"],
    ),
}


def told(kubectl: Kubectl, name: str) -> str:
    return json.dumps(kubectl.status(name), indent=1)


def test_bad_input_becomes_a_condition_with_a_next_step(kubectl: Kubectl, model: Path) -> None:
    claim_models(kubectl, model)
    for name, (more, _, _) in BAD.items():
        kubectl.deploy(name, SPEC | more)
    for name, (_, reason, says) in BAD.items():

        def is_told(name: str = name, reason: str = reason, says: list[str] = says) -> bool:
            ready = kubectl.condition(name, "Ready")
            return ready.get("reason") == reason and all(s in ready["message"] for s in says)

        kubectl.until(is_told, LOADED_S, partial(told, kubectl, name))
        print(name, kubectl.condition(name, "Ready")["message"])
        assert kubectl.condition(name, "Degraded")["status"] == "True"
        kubectl("delete", "ssd", name, "--wait=false")  # the node has no room for all at once
    system = Kubectl("seesaw-system")
    (operator,) = system.get("pods", "-l", "app.kubernetes.io/name=seesaw-operator")["items"]
    assert operator["status"]["containerStatuses"][0]["restartCount"] == 0
