"""A worker that has come up needs no more shared memory, whoever fills it then."""

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

import aiohttp
import pytest

from seesaw_cli.serve.local import LocalWorker
from seesaw_core.layouts import Layout
from seesaw_worker.modes.resharding.shared_memory import vllm_shared_bytes
from support.tiny_worker import FLAGS as TINY_FLAGS
from support.worker_states import resharding

pytestmark = [pytest.mark.engine, pytest.mark.slow]

FLAGS = (*TINY_FLAGS, "--kv-buffer-gib=0.05", "--flush-timeout-s=0.5")
OWN_SHM = ["unshare", "-m", "sh", "-c"]
MOUNT = 'mount -t tmpfs -o size=400m tmpfs /dev/shm && exec "$@"'


def may_mount() -> bool:
    with contextlib.suppress(OSError):
        command = [*OWN_SHM, MOUNT, "sh", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    with (folder / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


async def complete(worker: LocalWorker, num_tokens: int) -> int:
    body = {
        "model": worker.model,
        "prompt": [10 + i % 800 for i in range(num_tokens)],
        "max_tokens": 60,
        "ignore_eos": True,
    }
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{worker.url}/v1/completions", json=body) as answer,
    ):
        return int((await answer.json())["usage"]["completion_tokens"])


@pytest.mark.skipif(not may_mount(), reason="needs to mount a file system of its own")
def test_a_serving_worker_goes_on_when_shared_memory_is_filled_and_freed(
    tiny_model: Path, tmp_path: Path
) -> None:
    worker = LocalWorker(tiny_model, FLAGS, log=tmp_path / "worker.log")
    worker._command[:0] = [*OWN_SHM, MOUNT, "sh"]
    with worker:
        shm = Path(f"/proc/{worker.process.pid}/root/dev/shm")
        taken = sum(p.stat().st_size for p in shm.glob("seesaw.*"))
        counted = sum(
            vllm_shared_bytes(layout) for layout in (Layout(pipeline=2), Layout(tensor=2))
        )
        assert 0.99 * counted < taken <= counted
        fill(shm)
        assert os.statvfs(shm).f_bavail == 0

        async def ask() -> list[int]:
            return await asyncio.gather(*(complete(worker, 300 * n) for n in range(1, 7)))

        for is_full in (True, True, False):
            if not is_full:
                (shm / "filler").unlink()
            before = resharding(worker.state()).transitions
            assert asyncio.run(ask()) == [60] * 6
            assert resharding(worker.state()).transitions > before
        assert worker.stop() == 0
