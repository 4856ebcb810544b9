"""Images are built from exact versions."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = sorted(f for f in ROOT.glob("*/**/Dockerfile") if ".venv" not in f.parts)
_EXACT = re.compile(r"scratch|\S+@sha256:[0-9a-f]{64}|localhost/\S+:\S+|\S+:v?\d+\.\d+\.\d+\S*")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_dockerfile_pins_its_base_and_what_it_installs(file: Path) -> None:
    text = file.read_text().replace("\\\n", " ")
    for base in re.findall(r"^ARG \w+=(\S+)", text, re.MULTILINE):
        assert _EXACT.fullmatch(base), base
    for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert base.startswith("${") or _EXACT.fullmatch(base), base
    for command in re.findall(r"pip install [^&\n]*", text):
        pinned = "--constraint" in command or "--no-deps" in command or "uv==" in command
        assert pinned, command
