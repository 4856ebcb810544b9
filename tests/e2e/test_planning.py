"""Layouts that the worker chooses: planned, measured, proposed for what came, and applied."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.cluster_client.kubectl import Json, Kubectl
from support.cluster_client.models import FLAGS, LOADED_S, MAX_LEN, claim_models
from support.fake_device.catalogue import TOY

pytestmark = pytest.mark.e2e

SPEC: Json = {
    "model": {"uri": "pvc://models/llama", "name": "llama", "maxModelLen": MAX_LEN},
    "accelerator": {"resourceName": "cpu", "count": 2, "product": "Toy"},
    "planning": {"promptTokens": 16, "outputTokens": 40, "approval": "Automatic"},
    "kvBuffer": {"size": "32Mi"},
    "engine": {
        "extraArgs": [*FLAGS, "--plan-accelerators=/models/toy.toml"],
        "resources": {"cpu": "50m", "memory": "8Gi"},
    },
}
LOOKS_S = 240.0  # two of 60 s, each about at least 200 requests


def test_a_better_plan_for_what_came_is_proposed_and_applied_without_losing_a_request(
    kubectl: Kubectl, model: Path
) -> None:
    (model.parent / "toy.toml").write_text(TOY)
    claim_models(kubectl, model)
    kubectl.deploy("auto", SPEC)
    kubectl.until_ready("auto", LOADED_S)

    def told() -> str:
        return json.dumps(kubectl.status("auto"), indent=1) + str(counts(kubectl))

    kubectl.until(lambda: "layouts" in kubectl.status("auto"), 10, told)
    first = kubectl.status("auto")
    assert first["layouts"] == {"prefill": "T2", "decode": "T2"}
    assert (first["plan"]["prefill"], first["plan"]["decode"]) == ("T2", "T2")
    assert first["plan"]["predictedTokensPerSecond"] > 0
    assert first["plan"]["promptTokens"] == 16
    print("planned:", first["plan"]["reason"])

    url = f"http://auto.{kubectl.namespace}.svc/v1"
    kubectl.run_pod("steady", ["python3", "/app/steady.py", url, "llama", "12", "980", "20"])
    kubectl.until(lambda: error_percent(kubectl) is not None, 60, told)
    print("prediction's error on other requests than planned for:", error_percent(kubectl), "%")
    took_s = kubectl.until(lambda: "applied" in kubectl.status("auto")["plan"], LOOKS_S, told)
    print(f"applied after {took_s:.0f} s: {kubectl.status('auto')['plan']['applied']}")

    def is_replaced() -> bool:
        status = kubectl.status("auto")
        if status["layouts"] != {"prefill": "P2", "decode": "T2"}:
            return False
        return bool(status.get("measured", {}).get("transitions", 0) >= 4)

    kubectl.until(is_replaced, LOADED_S, told)
    kubectl.until_ready("auto", LOADED_S)
    answered = counts(kubectl)["ok"]
    kubectl.until(lambda: counts(kubectl)["ok"] > answered + 30, 60, told)
    assert counts(kubectl)["failed"] == 0, counts(kubectl)
    reasons = {e["reason"]: e["message"] for e in kubectl.get("events")["items"]}
    assert "P2→T2" in reasons["PlanProposed"]
    assert "980" in reasons["PlanApplied"]
    print(kubectl("get", "ssd", "auto"), counts(kubectl))


def counts(kubectl: Kubectl) -> dict[str, Any]:
    lines = kubectl("logs", "steady", "--tail=1", check=False).splitlines()
    return {"ok": 0, "failed": 0} | (json.loads(lines[-1]) if lines else {})


def error_percent(kubectl: Kubectl) -> int | None:
    found: int | None = kubectl.status("auto").get("measured", {}).get("predictionErrorPercent")
    return found
