"""What can be told and noticed while the engines load."""

import asyncio
import contextlib

import psutil

from seesaw_worker.control import ControlPage, Role
from seesaw_worker.engine.settings import EngineSettings
from seesaw_worker.supervisor import descendants

_ENGINE_PROCESS = "VLLM::"  # how vLLM names its processes
_POLL_S = 0.5


class LoadingProgress:
    """How far two engines have come, as the control page shows it."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._page: ControlPage | None = None

    def __str__(self) -> str:
        if self._page is None:
            with contextlib.suppress(OSError, ValueError):
                self._page = ControlPage(self._settings.folder, self._settings.decode.num_devices)
        if self._page is None:
            return "making the KV buffer"
        total = self._page.num_devices
        counts = {role: self._page.num_loaded(role) for role in Role}
        if not any(counts.values()):
            return f"starting {2 * total} ranks and reading weights"
        if all(count == total for count in counts.values()):
            return "weights loaded; making KV pools and warming up"
        return "weights: " + ", ".join(f"{r.title} {n} of {total} ranks" for r, n in counts.items())


async def first_loss() -> str:
    """Wait until a process of an engine that was there is gone. Returns its name."""
    seen: dict[psutil.Process, str] = {}
    while True:
        here = {}
        for process in descendants():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.status() != psutil.STATUS_ZOMBIE:
                    here[process] = process.name()
        for process, name in seen.items():
            if process not in here:
                return f"{name} (process {process.pid})"
        seen = {p: name for p, name in here.items() if name.startswith(_ENGINE_PROCESS)}
        await asyncio.sleep(_POLL_S)
