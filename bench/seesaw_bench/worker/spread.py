"""Figures that were measured several times."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median, extremes and every value, in the order of the rounds."""

    median: float
    min: float
    max: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Raises: ValueError if there are none."""
        held = tuple(values)
        if not held:
            raise ValueError("no values to spread")
        return cls(median=statistics.median(held), min=min(held), max=max(held), values=held)

    @classmethod
    def of_ratios(cls, above: "Spread", below: "Spread") -> Self:
        """Round by round, so that what slows both down cancels out."""
        return cls.of(a / b for a, b in zip(above.values, below.values, strict=True) if b)

    def show(self, factor: float = 1.0, digits: int = 1) -> str:
        """Such as ``12.3 (11.9-14.0)``."""
        low, middle, high = (f"{factor * v:,.{digits}f}" for v in (self.min, self.median, self.max))
        return middle if len(self.values) == 1 else f"{middle} ({low}–{high})"
