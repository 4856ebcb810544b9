"""The parts of Seesaw at an earlier commit, from this repository's history."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION_0 = "f0a7bd40b47705c6e513bf88c0c85567ecd4f639"
"""The last commit whose messages had no version."""
_SOURCES = ("core", "operator", "router", "worker", "cli")


def tree_of(commit: str, folder: Path) -> Path:
    """Unpack the sources of a commit. Skips the test if the history does not contain it."""
    archive = folder / "tree.tar"
    made = subprocess.run(
        ["git", "archive", f"--output={archive}", commit, *_SOURCES, "tests/stand_in"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"commit {commit} is not in this clone: {made.stderr.strip()}")
    tree = folder / "tree"
    with tarfile.open(archive) as packed:
        packed.extractall(tree, filter="data")
    return tree


def environment_of(tree: Path) -> dict[str, str]:
    """Return an environment in which ``python -m seesaw_cli.main`` runs the parts of that tree."""
    paths = [str(tree / name) for name in (*_SOURCES, "tests")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
