"""One flag of ours, and how its value is read."""

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_MOST = 2**31 - 1
_SHOWN_CHARS = 40


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


def number(allowed: str, is_allowed: Callable[[float], bool]) -> Callable[[str], float]:
    """A parser of finite numbers that says what is allowed."""

    def parse(text: str) -> float:
        try:
            found = float(text) if text.isascii() else math.nan
        except ValueError:
            found = math.nan
        if not (math.isfinite(found) and is_allowed(found)):
            raise ArgumentTypeError(f"must be a number {allowed}, got {text[:_SHOWN_CHARS]!r}")
        return found

    return parse


def count(text: str) -> int:
    """A parser of whole numbers of at least 1."""
    try:
        found = int(text) if text.isascii() else 0
    except ValueError:
        found = 0
    if not 1 <= found <= _MOST:
        raise ArgumentTypeError(
            f"must be a whole number of at least 1, got {text[:_SHOWN_CHARS]!r}"
            + ("" if found < 1 else f", which is above {_MOST}")
        )
    return found
