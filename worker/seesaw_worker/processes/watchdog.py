"""No orphans: processes of a worker end as soon as the one above them is gone."""

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
"""Held by the thread that ends this process and what is below it; all others wait, and so end.

An engine that one thread kills makes others end the server, and they would leave before the first
has removed what only it had found.
"""


def die_with(pid: int) -> None:
    """Kill this process when process ``pid`` has died, whatever it is doing then.

    It removes the worker's shared memory first: whoever else would do so may be dead.
    """

    def end() -> None:
        try:
            remove_memory()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    _when_dead(pid, end)


def clean_up_with_supervisor() -> None:
    """In the server, before all else: when the supervisor has died, do its work and end.

    Nothing happens in a process that no supervisor has started.
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

    # Let go on if it was stopped by then, or nobody would clean up.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)
    _when_dead(int(supervisor_pid), clean_up)


def kill_children() -> None:
    """End every process below this one, at once, and remove the worker's shared memory.

    Resource trackers end with this process.
    """
    with ENDING:
        end_all(lambda: [p for p in descendants() if not is_tracker(p)])
        remove_memory()


def _when_dead(pid: int, act: Callable[[], None]) -> None:
    """Call ``act`` in a thread once the process is gone.

    The thread waits on the process itself (a pidfd), not on its number, so that a number which
    is used again cannot fool it.
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
