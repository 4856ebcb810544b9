"""Shared memory of engines that run outside a worker, as plain vLLM does in benchmarks and tests.

Plain vLLM does not remove the memory of its CPU collectives, so the command that started it does.
"""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

import psutil

from seesaw_worker.processes.run_folder import SHM
from seesaw_worker.processes.shm import RUN_FOLDER, remove_run_folder

_SEGMENT = re.compile(
    r"psm_[0-9a-f]{8}"  # multiprocessing's shared memory
    r"|sem\.mp-[a-z0-9_]{8}"  # multiprocessing's semaphores
    r"|vllm_dist_[0-9a-f]{32}-.+"  # vLLM's collectives on the CPU
    r"|torch_\d+_\d+_\d+"  # tensors that torch shares
    r"|(sem\.)?seesaw\.[0-9a-f]{16}\..+"  # a worker's
)
_GROUP = re.compile(r"vllm_dist_[0-9a-f]{32}-")
_OUR_SEGMENT = re.compile(r"control|kv-buffer|kv-sums|arena-\d+")


def mapped_segments(processes: Iterable[psutil.Process]) -> set[Path]:
    """Return the shared-memory files that the processes have mapped, vLLM's and Seesaw's."""
    paths: set[str] = set()
    for process in processes:
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{process.pid}/maps").read_text(errors="surrogateescape")
            for line in maps.splitlines():
                start = line.find("/")
                if start >= 0:
                    paths.add(line[start:].removesuffix(" (deleted)"))
    return {path for path in map(Path, paths) if is_segment(path)}


def is_segment(path: Path) -> bool:
    """Return whether a file is certainly a segment of vLLM or Seesaw.

    A user's own file, such as a checkpoint in shared memory, is none.
    """
    if path.parent == SHM:
        return _SEGMENT.fullmatch(path.name) is not None
    return (
        RUN_FOLDER.fullmatch(path.parent.name) is not None
        and _OUR_SEGMENT.fullmatch(path.name) is not None
    )


def remove_segments(segments: Iterable[Path]) -> None:
    """Remove segments, the other segments of their groups, and their run folders."""
    for segment in segments:
        if segment.parent == SHM:
            segment.unlink(missing_ok=True)
            if group := _GROUP.match(segment.name):
                for other in SHM.glob(f"{group[0]}*"):
                    other.unlink(missing_ok=True)
        else:
            remove_run_folder(segment.parent)
