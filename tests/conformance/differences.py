"""What differs between plain vLLM's answers and another subject's, and which of it is explained."""

import fnmatch
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

_RELATIVE: Final = 2e-3
_ABSOLUTE: Final = 5e-3
_NOTHING: Final = "∅"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place at which a subject's answer is not plain vLLM's."""

    subject: str
    row: str
    where: str
    plain: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A difference that is meant, or not ours. ``*`` in ``row`` and ``where`` stands for anything.

    reason: why the difference is right, or whose it is; shown in the report.
    """

    subject: str
    row: str
    where: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        return (
            self.subject == difference.subject
            and _matches(difference.row, self.row)
            and _matches(difference.where, self.where)
        )

    def is_about(self, ran: set[tuple[str, str]]) -> bool:
        """Whether any row that was run is one of its rows."""
        if "*" not in self.row:
            return (self.subject, self.row) in ran
        return any(s == self.subject and _matches(row, self.row) for s, row in ran)


def _matches(text: str, pattern: str) -> bool:
    """As :mod:`fnmatch`, fast for the many patterns that are none."""
    if "*" not in pattern:
        return text == pattern
    return fnmatch.fnmatchcase(text, literal(pattern))


def literal(pattern: str) -> str:
    """``[`` stands for itself: paths such as ``choices[0]`` are full of them."""
    return pattern.replace("[", "[[]")


def differences(plain: Any, found: Any, where: str = "") -> Iterator[tuple[str, str, str]]:
    """Where two documents differ, with both values. Floats may differ by rounding."""
    if isinstance(plain, dict) and isinstance(found, dict):
        for key in [*plain, *(k for k in found if k not in plain)]:
            at = f"{where}.{key}" if where else str(key)
            yield from differences(plain.get(key, _NOTHING), found.get(key, _NOTHING), at)
    elif isinstance(plain, list) and isinstance(found, list) and len(plain) == len(found):
        for index, (one, other) in enumerate(zip(plain, found, strict=True)):
            yield from differences(one, other, f"{where}[{index}]")
    elif not _equal(plain, found):
        yield where, _shown(plain), _shown(found)


def stale(
    explained: Sequence[Explained],
    found: Sequence[Difference],
    ran: set[tuple[str, str]],
    *,
    is_whole: bool,
) -> list[Explained]:
    """Explanations that explain nothing any more.

    A pattern is only judged when the whole table was run, since a part may not hold what it is for.
    """
    return [
        e
        for e in explained
        if (is_whole or "*" not in e.row)
        and e.is_about(ran)
        and not any(e.covers(d) for d in found)
    ]


def _equal(plain: Any, found: Any) -> bool:
    if isinstance(plain, float) and isinstance(found, (int, float)):
        return math.isclose(plain, found, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return type(plain) is type(found) and bool(plain == found)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
