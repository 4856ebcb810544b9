"""The spread of a figure over several measurements."""

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
        """Return the spread of values. Raises: ValueError if there are none."""
        values = tuple(values)
        if not values:
            raise ValueError("a spread needs at least one value")
        return cls(
            median=statistics.median(values), min=min(values), max=max(values), values=values
        )

    @classmethod
    def of_ratios(cls, above: "Spread", below: "Spread") -> Self:
        """Return the ratios round by round, so that what slows down both sides cancels out."""
        return cls.of(a / b for a, b in zip(above.values, below.values, strict=True) if b)

    def show(self, factor: float = 1.0, digits: int = 1) -> str:
        """Return the spread as text, such as ``12.3 (11.9-14.0)``."""
        low, middle, high = (f"{factor * v:,.{digits}f}" for v in (self.min, self.median, self.max))
        return middle if len(self.values) == 1 else f"{middle} ({low}–{high})"
