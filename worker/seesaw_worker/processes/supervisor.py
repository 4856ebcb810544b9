"""A small process above the server: nothing of a worker outlives it.

The supervisor starts the server in a session of its own and waits. Whichever process of the
worker is killed, another notices: engines' processes are watched by the server, the server by
the supervisor, and the supervisor by the server. Whoever is left ends the rest and removes what
they leave (:mod:`seesaw_worker.processes.run_folder`). It imports neither torch nor vLLM.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from seesaw_worker.processes.run_folder import WorkerFiles, remove_abandoned
from seesaw_worker.processes.stopped import StopWatch
from seesaw_worker.upstream.crash_reasons import BROKEN_FILE

PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TRACKER_GRACE_S = 1.0
_LOOK_EVERY_S = 1.0
SUPERVISOR_PID_VARIABLE = "SEESAW_SUPERVISOR_PID"
PARENT_PID_VARIABLE = "SEESAW_PARENT_PID"
"""Set by a command that starts a worker for itself: the worker is told to stop when it is gone."""


def supervise(command: Sequence[str], longest_stop_s: float = 0.0) -> int:
    """Run ``command`` to its end and clean up after it. Returns its exit code.

    It is killed once it has been stopped for ``longest_stop_s``; 0 stands for never.

    Raises: CapacityError if there is no room for temporary files.
    """
    stops: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def stop(number: int, _frame: object) -> None:
        stops.append(number)
        if child is not None:
            tell_to_stop(child)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    adopt_orphans()
    _stop_with_parent()
    remove_abandoned()
    files = WorkerFiles.create()
    try:
        if stops:
            return 0
        more = files.environment() | {SUPERVISOR_PID_VARIABLE: str(os.getpid())}
        child = subprocess.Popen(command, start_new_session=True, env=os.environ | more)
        if stops:  # it came before there was a child to pass it on to
            tell_to_stop(child)
        broken = files.folder / BROKEN_FILE
        code = _wait(child, StopWatch(longest_stop_s), broken)
        end_all(descendants)
        files.remove_memory()
        killed = (
            f"seesaw worker: broken: the server (process {child.pid}) has died by signal {-code}"
        )
        _say_last(broken, otherwise=f"{killed}\n" if code < 0 and not stops else "")
    finally:
        files.remove()
    if code == -signal.SIGTERM and stops:
        return 0  # it was told to stop before it could listen: while it was importing vLLM
    return code if code >= 0 else 1


def _say_last(broken: Path, *, otherwise: str) -> None:
    """Print, below whatever the dying said, what the server left in a file to be said last."""
    with contextlib.suppress(OSError):
        said = broken.read_text(errors="replace") if broken.exists() else otherwise
        print(said, end="", file=sys.stderr, flush=True)


def tell_to_stop(child: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, and let the child hear it if it has been stopped."""
    for number in (signal.SIGTERM, signal.SIGCONT):
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)


def _wait(child: subprocess.Popen[bytes], stops: StopWatch, last_word: Path) -> int:
    """Wait for the child's end, and end it if it stays stopped. Returns its exit code.

    What is then to be said last goes into the file ``last_word``.
    """
    process = psutil.Process(child.pid)
    pidfd = os.pidfd_open(child.pid)
    try:
        while not select.select([pidfd], [], [], _LOOK_EVERY_S)[0]:
            if stops.look([process]) is not None:
                line = f"seesaw worker: broken: the server (process {child.pid}) {stops.reason}"
                print(line, file=sys.stderr, flush=True)
                with contextlib.suppress(OSError):
                    last_word.write_text(f"{line}\n")
                child.kill()
                break
        return child.wait()
    finally:
        os.close(pidfd)


def _stop_with_parent() -> None:
    """Get SIGTERM when the command that started this worker for itself is gone, however."""
    parent = os.environ.pop(PARENT_PID_VARIABLE, None)
    if parent is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != int(parent):
            os.kill(os.getpid(), signal.SIGTERM)


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


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1:]))
