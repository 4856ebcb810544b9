"""No orphans: processes of a worker end as soon as the one above them is gone."""

import os
import select
import signal
import threading
from collections.abc import Callable


def end_with(pid: int) -> None:
    """Kill this process when process ``pid`` has died, whatever it is doing then."""
    _when_dead(pid, lambda: os.kill(os.getpid(), signal.SIGKILL))


def clean_up_with(supervisor_pid: int) -> None:
    """In the server: when the supervisor has died, do its work and end."""

    def clean_up() -> None:
        import psutil

        from seesaw_worker.supervisor import (
            descendants,
            end_all,
            mapped_segments,
            remove_segments,
        )

        segments = mapped_segments([*descendants(), psutil.Process()])
        end_all(descendants)
        remove_segments(segments)
        os._exit(1)

    _when_dead(supervisor_pid, clean_up)


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
