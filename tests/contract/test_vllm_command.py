"""vLLM's own command runs beside Seesaw, though its CPU build is installed under another name."""

import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

from seesaw_worker.upstream.package_name import register


def test_vllm_finds_its_metadata_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    register()
    assert version("vllm").startswith("0.32.")
    assert len({e.value for e in entry_points(group="vllm.general_plugins", name="seesaw")}) <= 1


def test_vllms_command_tells_its_version() -> None:
    ended = subprocess.run(
        [str(Path(sys.executable).with_name("vllm")), "--version"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "0.32." in ended.stdout
