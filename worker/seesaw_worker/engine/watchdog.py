"""No orphans: a process of the worker ends as soon as the server process is gone."""

import os
import select
import signal
import threading


def end_with(pid: int) -> None:
    """Kill this process when process ``pid`` has died, whatever it is doing then.

    A thread waits on the process itself (a pidfd), not on its number, so a reused number
    cannot fool it.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
        return

    def wait() -> None:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="seesaw-watchdog", daemon=True).start()
