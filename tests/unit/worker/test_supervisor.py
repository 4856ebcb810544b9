"""What the supervisor removes, and above all what it never does."""

import mmap
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from seesaw_worker import supervisor
from seesaw_worker.engine.causes import CAUSES_VARIABLE
from seesaw_worker.supervisor import is_ours, mapped_segments, remove_segments

RUN = "seesaw-4711-0123abcd"


@pytest.mark.parametrize(
    "path",
    [
        "/dev/shm/psm_0123abcd",
        "/dev/shm/sem.mp-8gdpmc8o",
        "/dev/shm/vllm_dist_104b940a6c464775b6cd939228c5467c-tp:0-[0-1]-cpushm_1",
        "/dev/shm/torch_4711_123456_0",
        f"/dev/shm/{RUN}/kv-buffer",
        f"/dev/shm/{RUN}/control",
        f"/mnt/memory/{RUN}/arena-11",
    ],
)
def test_segments_of_vllm_and_of_ours_are_ours(path: str) -> None:
    assert is_ours(Path(path))


@pytest.mark.parametrize(
    "path",
    [
        "/dev/shm/model.safetensors",
        "/dev/shm/models/tiny/model-00001-of-00002.safetensors",
        "/dev/shm/psm_notes",
        "/dev/shm/psm_0123abcd.safetensors",
        "/dev/shm/torch_model.safetensors",
        "/dev/shm/torch_2_10.bin",
        "/dev/shm/vllm_dist_weights.bin",
        "/dev/shm/psm_0123abcd/model.safetensors",
        "/dev/shm/seesaw-models/model.safetensors",
        "/dev/shm/seesaw-1-tiny/arena-0",
        f"/dev/shm/{RUN}/model.safetensors",
        f"/dev/shm/{RUN}/arena-0.safetensors",
        f"/models/{RUN}-copy/kv-buffer",
        f"/models/{RUN}/checkpoint/kv-buffer",
        "/tmp/psm_0123abcd",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
    ],
)
def test_a_file_of_a_users_is_never_ours(path: str) -> None:
    assert not is_ours(Path(path))


def test_a_run_folder_goes_with_its_segment(tmp_path: Path) -> None:
    folder = tmp_path / RUN
    folder.mkdir()
    for name in ("owner.lock", "kv-buffer", "arena-0", "decode.sock"):
        (folder / name).touch()
    remove_segments([folder / "kv-buffer"])
    assert not folder.exists()


def test_a_folder_without_our_lock_keeps_its_other_files(tmp_path: Path) -> None:
    folder = tmp_path / RUN
    folder.mkdir()
    (folder / "control").touch()
    (folder / "model.safetensors").touch()
    remove_segments([folder / "control"])
    assert [p.name for p in folder.iterdir()] == ["model.safetensors"]


@pytest.fixture
def segment() -> Iterator[Path]:
    """One of Python's shared-memory segments, which this process has mapped."""
    path = Path("/dev/shm") / f"psm_{secrets.token_hex(4)}"
    path.write_bytes(bytes(4096))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        yield path
    path.unlink()


@pytest.mark.parametrize(
    ("before", "is_removed"),
    [
        pytest.param([], True, id="it came with the worker"),
        pytest.param(["psm_99999999"], True, id="another was there before"),
        pytest.param(["{}"], False, id="it was there before, as a cache server's is"),
        pytest.param(None, False, id="nobody knows any more"),
    ],
)
def test_a_mapped_segment_is_the_workers_only_if_it_came_with_it(
    before: list[str] | None,
    is_removed: bool,
    segment: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CAUSES_VARIABLE, str(tmp_path / "causes"))
    if before is not None:
        names = [name.format(segment.name) for name in before]
        (tmp_path / "before").write_text("\n".join(f"/dev/shm/{name}" for name in names))
    supervisor._there_before.cache_clear()
    try:
        assert (segment in mapped_segments([psutil.Process()])) is is_removed
    finally:
        supervisor._there_before.cache_clear()


def test_a_worker_starts_beside_files_whose_names_are_no_text() -> None:
    odd = Path(os.fsdecode(b"/dev/shm/seesaw-test-\xff"))
    odd.touch()
    try:
        supervised = [sys.executable, "-m", "seesaw_worker.supervisor", "true"]
        ended = subprocess.run(supervised, capture_output=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert odd.exists()
    finally:
        odd.unlink()
