"""Images are built from exact versions, and run as whatever user."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = sorted(f for f in ROOT.glob("*/**/Dockerfile") if "site-packages" not in f.parts)
PARTS = sorted(ROOT.glob("images/*/Dockerfile"))
UNKNOWN_USER = 1000670000  # as OpenShift gives one
ASK = """
import getpass, os, pathlib, pwd, sys
if os.geteuid() == 0:
    os.setuid(int(sys.argv[1]))
print(getpass.getuser(), pathlib.Path.home())
"""
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


@pytest.mark.parametrize("file", PARTS, ids=lambda file: file.parent.name)
def test_a_user_whom_the_image_does_not_know_has_a_name_and_a_home(file: Path) -> None:
    _, _, last_stage = file.read_text().rpartition("\nFROM ")
    lines = re.findall(r"^ENV (.*)", last_stage, re.MULTILINE)
    made = dict(word.split("=", 1) for line in lines for word in line.split())
    told = subprocess.run(
        [sys.executable, "-c", ASK, str(UNKNOWN_USER)],
        env={name: value for name, value in made.items() if name != "PATH"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["seesaw", "/tmp"]
