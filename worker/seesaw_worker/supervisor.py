"""A small process above the server: nothing of a worker outlives it.

The supervisor starts the server in a session of its own and waits. Whichever process of the
worker is killed, another notices: engines' processes are watched by the server, the server by
the supervisor, and the supervisor by the server. Whoever is left ends the rest and removes their
shared memory. It imports neither torch nor vLLM.
"""

import contextlib
import ctypes
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_INVENTORY_EVERY_S = 2.0
_SHM = Path("/dev/shm")
_VLLM_SEGMENTS = ("psm_", "sem.mp-", "vllm_dist_", "torch_")
_RUN_FOLDER = re.compile(r"seesaw-\d+-[0-9a-f]{8}")


def supervise(command: Sequence[str]) -> int:
    """Run ``command`` to its end and clean up after it. Returns its exit code."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = set(_SHM.iterdir())
    child = subprocess.Popen(command, start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: _forward(child, n))
    seen: set[Path] = set()
    while True:
        seen |= mapped_segments(descendants())
        try:
            code = child.wait(timeout=_INVENTORY_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            continue
    seen |= mapped_segments(descendants())
    end_all(descendants)
    remove_segments(s for s in seen if s not in before)
    return code if code >= 0 else 1


def _forward(child: "subprocess.Popen[bytes]", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM if number == signal.SIGINT else number)


def descendants() -> list[psutil.Process]:
    """All processes below this one, orphans that came to it included."""
    return psutil.Process().children(recursive=True)


def end_all(find: Callable[[], list[psutil.Process]], timeout_s: float = 5.0) -> None:
    """Kill what ``find`` finds until it finds nothing any more."""
    deadline = time.monotonic() + timeout_s
    while (left := find()) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=0.2)


def mapped_segments(processes: Sequence[psutil.Process]) -> set[Path]:
    """Shared-memory files that the processes have mapped: vLLM's and our own."""
    found: set[Path] = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
                path = Path(line[line.find("/") :].removesuffix(" (deleted)"))
                if "/" in line and is_ours(path):
                    found.add(path)
    return found


def is_ours(path: Path) -> bool:
    """Whether a file can only be vLLM's or our segment: never a user's own file, such as a
    checkpoint that lies in shared memory and is mapped as well."""
    if path.parent == _SHM:
        return path.name.startswith(_VLLM_SEGMENTS)
    return _RUN_FOLDER.fullmatch(path.parent.name) is not None


def remove_segments(segments: Iterable[Path]) -> None:
    """Remove segments, and the run folders that held them."""
    for segment in segments:
        segment.unlink(missing_ok=True)
        if segment.parent != _SHM:
            for rest in segment.parent.glob("*"):
                rest.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                segment.parent.rmdir()


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1:]))
