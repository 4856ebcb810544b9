"""``seesaw calibrate`` on the real worker, and what ``seesaw plan`` makes of its profile."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from seesaw_cli import plan
from seesaw_cli.calibrate import command as calibrate
from seesaw_worker.synthetic import TINY, write_checkpoint

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def test_a_calibrated_profile_is_one_that_a_plan_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, profile = tmp_path / "model", tmp_path / "profile.json"
    write_checkpoint(model, replace(TINY, max_position_embeddings=1024))
    assert calibrate.run([str(model), "--rounds=1", f"--output={profile}"]) == 0
    shown = capsys.readouterr()
    rounds = [line for line in shown.err.splitlines() if "round 1 of 1" in line]
    assert [line.rsplit(" ", 1)[1] for line in rounds] == ["T2", "P2", "P2→T2"]
    written = json.loads(profile.read_text())
    systems = [run["run"].split(" ")[0] for run in written["measured"]]
    assert systems == ["T2"] * 8 + ["P2"] * 8, "the pair is for its transitions alone"
    assert written["transition_s"] > 0
    assert all(run["seconds"] > 0 and run["predicted_s"] > 0 for run in written["measured"])

    asked = [str(model), "--accelerator=A10", "--devices=2", f"--profile={profile}"]
    assert plan.run([*asked, "--prompt-tokens=100", "--output-tokens=50"]) == 0
    assert "was measured on 'processor core', not on A10" in capsys.readouterr().out
