"""Detects processes that were stopped (SIGSTOP) and not continued.

Only the state that the kernel reports is used, so that it works before an engine answers. A process
in a debugger does not count as stopped.
"""

import time
from collections.abc import Iterable

import psutil

_LONGEST_GAP_S = 2.0  # between two looks; a longer gap means that this process itself was stopped


class StopWatch:
    """Finds a process that has been stopped for ``bound_s`` seconds; 0 means never.

    Call order: :meth:`look` at least once a second.
    """

    def __init__(self, bound_s: float) -> None:
        self._bound_s = bound_s
        self._stopped_s: dict[psutil.Process, float] = {}
        self._last_s = time.monotonic()

    @property
    def reason(self) -> str:
        return f"has been stopped for {self._bound_s:.0f} s (--stall-exit-s)"

    def look(self, processes: Iterable[psutil.Process]) -> psutil.Process | None:
        """Return the first of ``processes`` that has been stopped for too long."""
        before_s, self._last_s = self._last_s, time.monotonic()
        passed_s = min(self._last_s - before_s, _LONGEST_GAP_S)
        self._stopped_s = {
            p: self._stopped_s.get(p, -passed_s) + passed_s for p in processes if _is_stopped(p)
        }
        for process, stopped_s in self._stopped_s.items():
            if self._bound_s and stopped_s >= self._bound_s:
                return process
        return None


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False
