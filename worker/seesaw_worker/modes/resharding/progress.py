"""The progress of two engines while they load."""

import contextlib

from seesaw_worker.processes.control_page import ControlPage, Role
from seesaw_worker.settings.engine import EngineSettings


class LoadingProgress:
    """The progress of two engines, as the control page shows it, in words."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._page: ControlPage | None = None

    def __str__(self) -> str:
        if self._page is None:
            with contextlib.suppress(OSError, ValueError):
                self._page = ControlPage(self._settings.folder, self._settings.decode.num_devices)
        if self._page is None:
            return "creating the KV buffer"
        total = self._page.num_devices
        counts = {role: self._page.num_loaded(role) for role in Role}
        if not any(counts.values()):
            return f"starting {2 * total} ranks and reading weights"
        if all(count == total for count in counts.values()):
            return "weights loaded; creating KV pools and warming up"
        return "weights: " + ", ".join(f"{r.title} {n} of {total} ranks" for r, n in counts.items())
