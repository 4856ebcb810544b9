"""Detects engines that can no longer start, while they load."""

import asyncio
import contextlib
import time

import psutil

from seesaw_worker.processes.stalls import StallBounds
from seesaw_worker.processes.stopped import StopWatch
from seesaw_worker.processes.supervisor import descendants

_ENGINE_PROCESS = "VLLM::"  # how vLLM names its processes
_POLL_S = 0.5


async def loading_failure(bounds: StallBounds) -> str:
    """Wait until the engines can no longer be expected to start. Returns the reason.

    The reason is that an engine process has ended, that a process has been stopped for
    ``exit_s``, or that loading has taken ``load_s``. Single steps have no bound yet, since
    nothing is known of how long they take.
    """
    engine_processes: dict[psutil.Process, str] = {}
    stops = StopWatch(bounds.exit_s)
    loading_s, last_s = 0.0, time.monotonic()
    while True:
        alive = {p: name for p in descendants() if (name := _name_of(p)) is not None}
        for process, name in engine_processes.items():
            if process not in alive:
                return f"{name} (process {process.pid}) has died while loading"
        engine_processes = {p: n for p, n in alive.items() if n.startswith(_ENGINE_PROCESS)}
        if (stopped := stops.look(alive)) is not None:
            return f"{alive[stopped]} (process {stopped.pid}) {stops.reason}, while loading"
        if bounds.load_s and loading_s > bounds.load_s:
            return f"the engines have been loading for {loading_s:.0f} s (--load-exit-s)"
        await asyncio.sleep(_POLL_S)
        before_s, last_s = last_s, time.monotonic()
        # A longer gap means that this process itself was stopped; that time does not count.
        loading_s += min(last_s - before_s, 2 * _POLL_S)


def _name_of(process: psutil.Process) -> str | None:
    """Return the name of a process, or None if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.name()
    return None
