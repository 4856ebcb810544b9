"""``seesaw plan`` says when elastic instances answer sooner than the layouts of the plan."""

import json
from pathlib import Path

import pytest

from seesaw_cli import plan

LWM = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "max_position_embeddings": 1 << 20,
}
PLACE = ("--accelerator", "A100-SXM-80", "--devices", "8", "--json")


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "lwm").mkdir()
    (tmp_path / "lwm/config.json").write_text(json.dumps(LWM))
    return str(tmp_path / "lwm")


def _best(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    best: dict[str, str] = json.loads(capsys.readouterr().out)["served"][0]
    return best


def test_elastic_instances_are_best_for_short_prompts_beside_long_ones(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        f"{number * 0.25},{200_000 if number % 12 == 0 else 300},{20 if number % 12 == 0 else 60}"
        for number in range(120)
    ]
    trace = tmp_path / "mixed.csv"
    trace.write_text("\n".join(("arrival_s,prompt_tokens,output_tokens", *rows)))
    asked = [model, *PLACE, "--trace", str(trace)]
    assert plan.run([*asked, "--dtype", "float16"]) == 0
    best = _best(capsys)
    assert best["system"].startswith("elastic")
    assert "--elastic-instances" in best["command"]
    assert best["command"].endswith("--dtype float16")
    assert plan.run([*asked, "--kv-cache-dtype", "fp8"]) == 0  # which instances refuse
    assert not _best(capsys)["system"].startswith("elastic")


def test_a_static_or_resharding_worker_is_best_for_short_prompts_alone(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = ("--prompt-tokens", "300", "--output-tokens", "100", "--spread", "0")
    asked = (*lengths, "--requests", "100", "--arrivals-per-s", "2")
    assert plan.run([model, *PLACE, *asked]) == 0
    assert not _best(capsys)["system"].startswith("elastic")


def test_without_arrivals_nothing_is_simulated(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.run([model, *PLACE, "--requests", "50"]) == 0
    assert "served" not in json.loads(capsys.readouterr().out)
