"""Notices while the engines load that they can no longer come up."""

import asyncio
import contextlib
import time

import psutil

from seesaw_worker.processes.stalls import StallBounds
from seesaw_worker.processes.stopped import StopWatch
from seesaw_worker.processes.supervisor import descendants

_ENGINE_PROCESS = "VLLM::"  # how vLLM names its processes
_POLL_S = 0.5


async def first_trouble(bounds: StallBounds) -> str:
    """Wait until the engines can no longer be expected to come up. Returns why.

    A process of an engine that was there is gone, any process has been stopped for ``exit_s``, or
    all has taken ``load_s``: what single steps may take is not known yet.
    """
    seen: dict[psutil.Process, str] = {}
    stops = StopWatch(bounds.exit_s)
    took_s, last_s = 0.0, time.monotonic()
    while True:
        here = {p: name for p in descendants() if (name := _name_of(p)) is not None}
        for process, name in seen.items():
            if process not in here:
                return f"{name} (process {process.pid}) has died while loading"
        seen = {p: name for p, name in here.items() if name.startswith(_ENGINE_PROCESS)}
        if (stopped := stops.look(here)) is not None:
            return f"{here[stopped]} (process {stopped.pid}) {stops.reason}, while loading"
        if bounds.load_s and took_s > bounds.load_s:
            return f"the engines have been loading for {took_s:.0f} s (--load-exit-s)"
        await asyncio.sleep(_POLL_S)
        before_s, last_s = last_s, time.monotonic()
        took_s += min(last_s - before_s, 2 * _POLL_S)  # without the time this stood still itself


def _name_of(process: psutil.Process) -> str | None:
    """A process's name; None if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.name()
    return None
