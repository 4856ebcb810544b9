"""``seesaw bench elastic --quick``: everything is measured and reported. No figure is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.slow]

COMMAND = (sys.executable, "-m", "seesaw_cli.main", "bench", "elastic", "--quick")


def test_a_quick_benchmark_reports_every_part(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*COMMAND, "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr[-4000:]
    result = json.loads(ended.stdout)
    targets = {"degree_2", "fit", "decode1", "decode4", "prefill", "divide"}
    assert set(result["targets"]) == targets
    for name in (
        "ttft.128.degree1",
        "ttft.1024.degree2",
        "ttft.1024.plain",
        "ttft.1024.tensor",
        "alone.elastic.token_s",
        "beside.elastic.long_s",
        "beside.tensor.longest_gap_s",
        "steps.down.keep1",
        "steps.up.keep2.batch4",
    ):
        assert result["figures"][name]["median"] > 0, name
    assert json.loads((tmp_path / "bench.json").read_text()) == result
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "| ratio | measured | target | met |" in (tmp_path / "bench.md").read_text()
