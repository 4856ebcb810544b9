"""Shared memory that engines outside of a worker have mapped: plain vLLM in benchmarks and tests.

Plain vLLM leaves its collectives' memory on the CPU behind; whoever started it removes that.
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
    """Shared-memory files that the processes have mapped: vLLM's and our own."""
    found: set[str] = set()
    for process in processes:
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{process.pid}/maps").read_text(errors="surrogateescape")
            for line in maps.splitlines():
                start = line.find("/")
                if start >= 0:
                    found.add(line[start:].removesuffix(" (deleted)"))
    return {path for path in map(Path, found) if is_segment(path)}


def is_segment(path: Path) -> bool:
    """Whether a file can only be vLLM's or our segment: never a user's own file, such as a
    checkpoint that lies in shared memory and is mapped as well."""
    if path.parent == SHM:
        return _SEGMENT.fullmatch(path.name) is not None
    return (
        RUN_FOLDER.fullmatch(path.parent.name) is not None
        and _OUR_SEGMENT.fullmatch(path.name) is not None
    )


def remove_segments(segments: Iterable[Path]) -> None:
    """Remove segments, the others of their groups, and the run folders that held them."""
    for segment in segments:
        if segment.parent == SHM:
            segment.unlink(missing_ok=True)
            if group := _GROUP.match(segment.name):
                for other in SHM.glob(f"{group[0]}*"):
                    other.unlink(missing_ok=True)
        else:
            remove_run_folder(segment.parent)
