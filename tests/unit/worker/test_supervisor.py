"""What the supervisor removes, and above all what it never does."""

from pathlib import Path

import pytest

from seesaw_worker.supervisor import is_ours, remove_segments

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
