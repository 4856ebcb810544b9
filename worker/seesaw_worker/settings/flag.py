"""One of Seesaw's own flags of a worker."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A flag and how its value is parsed. The default None means that it follows from other flags.

    ``sets`` names the field of :class:`WorkerSettings` that the flag sets.
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
