"""``seesaw bench worker --quick``: everything is measured and reported. No figure is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.slow]

_TARGETS = {
    "handover_to_prefill",
    "handover_to_decode",
    "prefill_with_kv_leaving",
    "decode_while_kv_arrives",
    "decode_against_plain",
}


def test_a_quick_benchmark_reports_every_figure(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "seesaw_cli.main",
            "bench",
            "worker",
            "--quick",
            "--output",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr[-4000:]
    result = json.loads(ended.stdout)
    assert set(result["targets"]) == _TARGETS
    figures = result["figures"]
    for name in (
        "transition.prefill.handover_s",
        "transition.decode.handover_s",
        "memcpy.prefill.s",
        "memcpy.decode.bytes",
        "prefill.with.tokens_per_s",
        "arrival.load.loaded_tokens_per_s",
        "steady.seesaw.tokens_per_s",
        "steady.plain.tokens_per_s",
        "steady.packed.tokens_per_s",
        "steady.resident.tokens_per_s",
    ):
        assert figures[name]["median"] > 0, name
    moved, copied = (figures[f"{n}.prefill.bytes"]["median"] for n in ("transition", "memcpy"))
    assert 0.95 * moved < copied <= moved  # what is written without copying is left out
    memory = result["memory"]["seesaw"]["by_kind"]
    model_bytes = result["model"]["bytes"]
    assert 0.5 * model_bytes < memory["host_weights"] <= 1.01 * model_bytes
    assert json.loads((tmp_path / "bench.json").read_text()) == result
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "| ratio | measured | target | met |" in (tmp_path / "bench.md").read_text()
