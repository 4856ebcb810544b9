"""Run folders: a dead owner's goes at the next start, a living one's stays."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from seesaw_worker.processes.shm import LOCK, RunFolder, remove_stale

OWNER = """
import sys, time
from pathlib import Path
from seesaw_worker.processes.shm import RunFolder, create_segment
folder = RunFolder.create(Path(sys.argv[1]))
create_segment(folder.path / "kv-buffer", 8192, flag="--kv-buffer-gib")
print(folder.path, flush=True)
time.sleep(600)
"""


@contextmanager
def owner_of_a_folder(shm_dir: Path) -> Iterator[tuple["subprocess.Popen[str]", Path]]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(shm_dir)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        with process.stdout as lines:
            yield process, Path(lines.readline().strip())
    finally:
        process.kill()
        process.wait()


def test_the_folder_of_a_killed_owner_is_removed_at_the_next_start(tmp_path: Path) -> None:
    with owner_of_a_folder(tmp_path) as (process, path):
        assert (path / "kv-buffer").stat().st_size == 8192
        process.kill()
        process.wait()
        folder = RunFolder.create(tmp_path)
        assert list(tmp_path.iterdir()) == [folder.path]
        folder.close()
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_living_owner_stays(tmp_path: Path) -> None:
    with owner_of_a_folder(tmp_path) as (_, path):
        folder = RunFolder.create(tmp_path)
        assert remove_stale(tmp_path) == []
        assert set(tmp_path.iterdir()) == {path, folder.path}
        assert (path / "kv-buffer").exists()
        folder.close()


def test_only_run_folders_are_ever_removed(tmp_path: Path) -> None:
    kept = ["seesaw-models", "seesaw-1-tiny", "other", "seesaw-7-0123abcd"]
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / "seesaw-models" / LOCK).touch()
    RunFolder.create(tmp_path).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize(("age_s", "stays"), [(5, True), (3600, False)])
def test_a_folder_that_never_got_its_name_goes_after_a_while(
    tmp_path: Path, age_s: int, stays: bool
) -> None:
    path = tmp_path / ".seesaw-7-0123abcd"
    path.mkdir(mode=0o700)
    os.utime(path, (time.time() - age_s,) * 2)
    RunFolder.create(tmp_path).close()
    assert path.exists() == stays
