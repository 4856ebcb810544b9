"""Ends the processes of a worker as soon as the process above them has died."""

import ctypes
import os
import select
import signal
import threading
from collections.abc import Callable

from seesaw_worker.processes.run_folder import WorkerFiles, remove_memory
from seesaw_worker.processes.supervisor import (
    PR_SET_PDEATHSIG,
    SUPERVISOR_PID_VARIABLE,
    adopt_orphans,
    descendants,
    end_all,
    is_tracker,
)

ENDING = threading.RLock()
"""Held by the thread that ends this process and its children, while all other threads wait.

When one thread kills an engine, others react by ending the server. Without the lock they would exit
before the first thread has removed the files.
"""


def die_with(pid: int) -> None:
    """Kill this process when process ``pid`` has died, even if its threads hang.

    It removes the worker's shared memory first, since no other process may be left to do so.
    """

    def end() -> None:
        try:
            remove_memory()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    _when_dead(pid, end)


def clean_up_with_supervisor() -> None:
    """Clean up and exit when the supervisor has died. Called first in the server.

    This does nothing in a process that has no supervisor.
    """
    supervisor_pid = os.environ.get(SUPERVISOR_PID_VARIABLE)
    if supervisor_pid is None:
        return
    adopt_orphans()

    def clean_up() -> None:
        with ENDING:
            try:
                kill_children()
                if (files := WorkerFiles.current()) is not None:
                    files.remove()
            finally:
                os._exit(1)

    # If this process is stopped when the supervisor dies, it must continue, or nothing cleans up.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)
    _when_dead(int(supervisor_pid), clean_up)


def kill_children() -> None:
    """Kill every process below this one and remove the worker's shared memory.

    Resource trackers are spared; they end with this process.
    """
    with ENDING:
        end_all(lambda: [p for p in descendants() if not is_tracker(p)])
        remove_memory()


def _when_dead(pid: int, act: Callable[[], None]) -> None:
    """Call ``act`` in a thread once process ``pid`` has died.

    The thread waits on a pidfd rather than on the number, which the kernel may use again.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        act()
        return

    def wait() -> None:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll()
        act()

    threading.Thread(target=wait, name="seesaw-watchdog", daemon=True).start()
