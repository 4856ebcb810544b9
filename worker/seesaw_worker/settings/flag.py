"""One flag of ours, and how its value is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag of ours. ``default`` None means that it follows from other flags.

    ``sets`` names the fields of :class:`WorkerSettings` that the flag decides.
    """

    name: str
    sets: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    choices: tuple[str, ...] | None = None

    @property
    def attribute(self) -> str:
        return self.name.removeprefix("--").replace("-", "_")
