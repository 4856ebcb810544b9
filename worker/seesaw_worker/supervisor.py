"""A small process above the server: nothing of a worker outlives it.

The supervisor starts the server in a session of its own and waits. Whichever process of the
worker is killed, another notices: engines' processes are watched by the server, the server by
the supervisor, and the supervisor by the server. Whoever is left ends the rest and removes their
shared memory. It imports neither torch nor vLLM.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import psutil

from seesaw_worker.engine.causes import BROKEN_FILE, CAUSES_VARIABLE
from seesaw_worker.shm import LOCK, RUN_FOLDER, is_abandoned, own

_PR_SET_CHILD_SUBREAPER = 36
_INVENTORY_EVERY_S = 2.0
_TRACKER_GRACE_S = 1.0
_SHM = Path("/dev/shm")
_VLLM_SEGMENT = re.compile(
    r"psm_[0-9a-f]{8}"  # multiprocessing's shared memory
    r"|sem\.mp-[a-z0-9_]{8}"  # multiprocessing's semaphores
    r"|vllm_dist_[0-9a-f]{32}-.+"  # vLLM's collectives on the CPU
    r"|torch_\d+_\d+_\d+"  # tensors that torch shares
)
_GROUP = re.compile(r"vllm_dist_[0-9a-f]{32}-")
_OUR_SEGMENT = re.compile(r"control|kv-buffer|arena-\d+")
SUPERVISOR_PID_VARIABLE = "SEESAW_SUPERVISOR_PID"
_SOCKETS_VARIABLE = "VLLM_RPC_BASE_PATH"
_SOCKETS_PREFIX = "seesaw-sockets-"
_CAUSES_PREFIX = "seesaw-causes-"
_SEGMENTS_PREFIX = "segments-"
_BEFORE_FILE = "before"
_SOCKETS_FILE = "sockets"


def supervise(command: Sequence[str]) -> int:
    """Run ``command`` to its end and clean up after it. Returns its exit code."""
    adopt_orphans()
    clean_up_after_the_dead()
    if _SOCKETS_VARIABLE not in os.environ:
        os.environ[_SOCKETS_VARIABLE] = tempfile.mkdtemp(prefix=_SOCKETS_PREFIX)
    os.environ[SUPERVISOR_PID_VARIABLE] = str(os.getpid())
    folder = Path(tempfile.mkdtemp(prefix=_CAUSES_PREFIX))
    own(folder)
    _write(folder / _BEFORE_FILE, filter(is_ours, _SHM.iterdir()))
    _write(folder / _SOCKETS_FILE, [Path(os.environ[_SOCKETS_VARIABLE])])
    os.environ[CAUSES_VARIABLE] = str(folder / "causes")
    child = subprocess.Popen(command, start_new_session=True)
    stopped = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    seen: set[Path] = set()
    while True:
        seen |= mapped_segments(descendants())
        note_segments(seen)
        try:
            code = child.wait(timeout=_INVENTORY_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            continue
    seen |= mapped_segments(descendants()) | _noted(folder)
    end_all(descendants)
    remove_segments(seen)
    with contextlib.suppress(OSError):  # last, below whatever the dying said
        print((folder / BROKEN_FILE).read_text(), end="", file=sys.stderr, flush=True)
    remove_folders()
    if code == -signal.SIGTERM and stopped:
        return 0  # it was told to stop before it could listen: while it was importing vLLM
    return code if code >= 0 else 1


def adopt_orphans() -> None:
    """Become the parent of every process below whose own parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[psutil.Process]:
    """All processes below this one, orphans that came to it included."""
    return psutil.Process().children(recursive=True)


def end_all(find: Callable[[], list[psutil.Process]], timeout_s: float = 5.0) -> None:
    """Kill what ``find`` finds until it finds nothing any more.

    Python's resource trackers are left a moment to end by themselves once all others have: they
    remove shared memory that nobody has mapped yet.
    """
    began = time.monotonic()
    while (left := find()) and (passed := time.monotonic() - began) < timeout_s:
        victims = [p for p in left if not is_tracker(p)]
        if not victims and passed > _TRACKER_GRACE_S:
            victims = left
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=0.1)


def is_tracker(process: psutil.Process) -> bool:
    """Whether a process is one of Python's resource trackers."""
    try:
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False


def mapped_segments(processes: Iterable[psutil.Process]) -> set[Path]:
    """Shared-memory files that the processes have mapped: vLLM's and our own."""
    found: set[str] = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for line in _lines(Path(f"/proc/{process.pid}/maps")):
                start = line.find("/")
                if start >= 0 and ("/dev/shm/" in line or "/seesaw-" in line):
                    found.add(line[start:].removesuffix(" (deleted)"))
    ours = {path for path in map(Path, found) if is_ours(path)}
    foreign = _there_before()
    if foreign is None:
        return {path for path in ours if path.parent != _SHM}
    return ours - foreign


@cache
def _there_before() -> frozenset[Path] | None:
    """Segments that are another's, such as a cache server's: they were there before this worker.

    None if that is not known any more, and empty without a supervisor.
    """
    told = os.environ.get(CAUSES_VARIABLE)
    if told is None:
        return frozenset()
    try:
        return frozenset(map(Path, _lines(Path(told).with_name(_BEFORE_FILE))))
    except OSError:
        return None


def is_ours(path: Path) -> bool:
    """Whether a file can only be vLLM's or our segment: never a user's own file, such as a
    checkpoint that lies in shared memory and is mapped as well."""
    if path.parent == _SHM:
        return _VLLM_SEGMENT.fullmatch(path.name) is not None
    return (
        RUN_FOLDER.fullmatch(path.parent.name) is not None
        and _OUR_SEGMENT.fullmatch(path.name) is not None
    )


def remove_segments(segments: Iterable[Path]) -> None:
    """Remove segments, the others of their groups, and the run folders that held them."""
    for segment in segments:
        segment.unlink(missing_ok=True)
        if segment.parent == _SHM:
            if group := _GROUP.match(segment.name):
                for other in _SHM.glob(f"{group[0]}*"):
                    other.unlink(missing_ok=True)
        elif (segment.parent / LOCK).exists():
            shutil.rmtree(segment.parent, ignore_errors=True)


def note_segments(segments: Iterable[Path]) -> None:
    """Write down what is to be removed, for the next start if nobody of this one is left.

    Each process has a note of its own. Nothing happens without a supervisor.
    """
    with contextlib.suppress(KeyError, OSError):
        folder = Path(os.environ[CAUSES_VARIABLE]).parent
        _write(folder / f"{_SEGMENTS_PREFIX}{os.getpid()}", segments)


def _noted(folder: Path) -> set[Path]:
    """The segments that are written down in a supervisor's folder."""
    lines: set[str] = set()
    for note in folder.glob(f"{_SEGMENTS_PREFIX}*"):
        with contextlib.suppress(OSError):
            lines.update(_lines(note))
    return {path for path in map(Path, lines) if is_ours(path)}


def _write(file: Path, paths: Iterable[Path]) -> None:
    """Write paths a line each, all at once, whatever bytes are in them."""
    unfinished = file.with_name(f".{file.name}")
    unfinished.write_bytes(b"\n".join(map(os.fsencode, paths)))
    unfinished.rename(file)


def _lines(file: Path) -> list[str]:
    """Raises: OSError."""
    return os.fsdecode(file.read_bytes()).splitlines()


def clean_up_after_the_dead() -> None:
    """Remove what workers left of which every process was killed at once."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_CAUSES_PREFIX}*"):
        if not is_abandoned(folder):
            continue
        remove_segments(_noted(folder))
        with contextlib.suppress(OSError):
            for sockets in map(Path, _lines(folder / _SOCKETS_FILE)):
                if sockets.name.startswith(_SOCKETS_PREFIX):
                    shutil.rmtree(sockets, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def remove_folders() -> None:
    """Remove the folders that the supervisor made: of vLLM's sockets, and of causes."""
    for folder, prefix in (
        (Path(os.environ.get(_SOCKETS_VARIABLE, "")), _SOCKETS_PREFIX),
        (Path(os.environ.get(CAUSES_VARIABLE, "")).parent, _CAUSES_PREFIX),
    ):
        if folder.name.startswith(prefix):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1:]))
