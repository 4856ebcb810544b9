"""Reports the first death among a worker's processes and tasks."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import psutil

from seesaw_core.errors import EngineDiedError
from seesaw_worker.modes.resharding.core_client import TwoEngineClient

DeathCallback = Callable[[EngineDiedError], None]


class DeathWatch:
    """Reports the first death, once, to the clients of both engines and to ``on_death``."""

    def __init__(self, cores: TwoEngineClient, on_death: DeathCallback) -> None:
        self._cores = cores
        self._on_death: DeathCallback | None = on_death

    def expect(self) -> None:
        """Report no death from now on."""
        self._on_death = None

    async def watch_process(self, pid: int, name: str) -> None:
        loop = asyncio.get_running_loop()
        died = asyncio.Event()
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._announce(EngineDiedError(f"{name} (process {pid}) has died"))
            return
        loop.add_reader(pidfd, died.set)
        try:
            await died.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        self._announce(EngineDiedError(f"{name} (process {pid}) has died"))

    async def watch_work(self, work: Awaitable[None]) -> None:
        try:
            await work
        except* Exception as errors:  # noqa: BLE001 - whatever it is, the worker is broken
            cause = errors.exceptions[0]
            error = EngineDiedError(f"the controller failed: {cause!r}")
            error.__cause__ = cause
            self._announce(error)

    def _announce(self, error: EngineDiedError) -> None:
        callback, self._on_death = self._on_death, None
        if callback is not None:
            self._cores.fail()
            callback(error)


def process_names() -> dict[int, str]:
    """Return the names of all processes below the server, by process id."""
    return {p.pid: p.name() for p in psutil.Process().children(recursive=True)}
