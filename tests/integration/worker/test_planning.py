"""A worker that plans for itself: what it runs is what it says it has planned."""

import json
import urllib.request
from pathlib import Path

import pytest

from seesaw_cli.serve.local import LocalWorker
from seesaw_core.messages import FinishedTotals, StaticState
from support.fake_device.catalogue import TOY
from support.worker_states import resharding

pytestmark = pytest.mark.engine

FLAGS = (
    "--parallelism=auto",
    "--devices=2",
    "--dtype=float32",
    "--enforce-eager",
    "--max-model-len=2048",
    "--max-num-seqs=8",
    "--block-size=32",
    "--generation-config=vllm",
    "--kv-cache-memory-bytes=268435456",
    "--kv-buffer-gib=0.25",
)


def complete(worker: LocalWorker) -> None:
    body = {"model": worker.model, "prompt": [5] * 40, "max_tokens": 6, "ignore_eos": True}
    request = urllib.request.Request(
        f"{worker.url}/v1/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def test_on_devices_with_slow_links_it_plans_a_pair_and_reshards(
    tiny_model: Path, tmp_path: Path
) -> None:
    catalogue = tmp_path / "toy.toml"
    catalogue.write_text(TOY)
    flags = (
        *FLAGS,
        "--accelerator=Toy",
        f"--plan-accelerators={catalogue}",
        "--plan-prompt-tokens=1000",
        "--plan-output-tokens=20",
    )
    log = tmp_path / "worker.log"
    with LocalWorker(tiny_model, flags, log=log) as worker:
        for _ in range(3):
            complete(worker)
        told = worker.state()
    part, plan = resharding(told), told.plan
    assert (part.prefill_layout, part.decode_layout, part.reshard) == ("P2", "T2", "auto")
    assert plan is not None
    assert (plan.prefill, plan.decode) == ("P2", "T2")
    assert part.transitions >= 2  # those of the warm-up
    assert plan.gain_percent is not None
    assert plan.gain_percent >= 3
    assert told.finished == FinishedTotals(requests=3, prompt_tokens=120, output_tokens=18)
    assert "plan P2→T2 on Toy" in log.read_text()


def test_on_the_cpu_it_serves_plain_vllm_and_says_why(tiny_model: Path, tmp_path: Path) -> None:
    with LocalWorker(tiny_model, FLAGS, log=tmp_path / "worker.log") as worker:
        complete(worker)
        told = worker.state()
    assert (told.mode, told.static) == ("static", StaticState(layout="T2"))
    assert told.plan is not None
    assert "on the CPU" in told.plan.reason
    assert told.finished.requests == 1
