"""A small process above the server, which ensures that nothing of the worker outlives it.

The supervisor starts the server in a separate session and waits. If any process of the worker is
killed, another detects it: the server watches the processes of the engines, and the supervisor and
the server watch each other. The survivor ends all other processes and removes what they leave
(:mod:`seesaw_worker.processes.run_folder`). The supervisor imports neither torch nor vLLM.
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
"""Set by a command that starts a worker for itself. The worker stops when that command ends."""


def supervise(command: Sequence[str], longest_stop_s: float = 0.0) -> int:
    """Run ``command`` to its end and clean up after it. Returns its exit code.

    The command is killed once it has been stopped (SIGSTOP) for ``longest_stop_s``; 0 means never.
    Raises: CapacityError if there is no room for temporary files.
    """
    stops: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def stop(number: int, _frame: object) -> None:
        stops.append(number)
        if child is not None:
            send_stop(child)

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
        if stops:  # the signal came before the child could receive it
            send_stop(child)
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
        return 0  # SIGTERM came while the server imported vLLM, before it handled signals
    return code if code >= 0 else 1


def _say_last(broken: Path, *, otherwise: str) -> None:
    """Print the server's last line, if it left one, below the output of all other processes."""
    with contextlib.suppress(OSError):
        text = broken.read_text(errors="replace") if broken.exists() else otherwise
        print(text, end="", file=sys.stderr, flush=True)


def send_stop(child: subprocess.Popen[bytes]) -> None:
    """Send SIGTERM, and continue the child if it is stopped, so that it handles the signal."""
    for number in (signal.SIGTERM, signal.SIGCONT):
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)


def _wait(child: subprocess.Popen[bytes], stops: StopWatch, broken: Path) -> int:
    """Wait for the child's end, and kill it if it stays stopped. Returns its exit code.

    The reason for killing it goes into the file ``broken``, which is printed last.
    """
    process = psutil.Process(child.pid)
    pidfd = os.pidfd_open(child.pid)
    try:
        while not select.select([pidfd], [], [], _LOOK_EVERY_S)[0]:
            if stops.look([process]) is not None:
                line = f"seesaw worker: broken: the server (process {child.pid}) {stops.reason}"
                print(line, file=sys.stderr, flush=True)
                with contextlib.suppress(OSError):
                    broken.write_text(f"{line}\n")
                child.kill()
                break
        return child.wait()
    finally:
        os.close(pidfd)


def _stop_with_parent() -> None:
    """Receive SIGTERM when the command that started this worker for itself has ended."""
    parent = os.environ.pop(PARENT_PID_VARIABLE, None)
    if parent is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != int(parent):
            os.kill(os.getpid(), signal.SIGTERM)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[psutil.Process]:
    """Return all processes below this one, including adopted orphans."""
    return psutil.Process().children(recursive=True)


def end_all(find: Callable[[], list[psutil.Process]], timeout_s: float = 5.0) -> None:
    """Kill the processes that ``find`` returns until it returns none.

    Python's resource trackers get a moment to end by themselves after all others: they remove
    shared memory that no process has mapped yet.
    """
    began = time.monotonic()
    while (alive := find()) and (passed := time.monotonic() - began) < timeout_s:
        victims = [p for p in alive if not is_tracker(p)]
        if not victims and passed > _TRACKER_GRACE_S:
            victims = alive
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=0.1)


def is_tracker(process: psutil.Process) -> bool:
    """Return whether a process is one of Python's resource trackers."""
    try:
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1:]))
