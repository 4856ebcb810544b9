"""Tables of times over sizes, interpolated in logarithms."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log


@dataclass(frozen=True, slots=True)
class Curve:
    """Times at increasing sizes. Units: seconds, in and out; sizes in any unit.

    Between two points, and beyond the ends along the last two, time is a power of size.
    Beyond the ends it never falls as size grows.
    """

    sizes: tuple[float, ...]
    seconds: tuple[float, ...]

    def at(self, size: float) -> float:
        """Return the time at a positive size."""
        place = min(max(bisect_left(self.sizes, size), 1), len(self.sizes) - 1)
        low, high = self.sizes[place - 1], self.sizes[place]
        first_s, second_s = self.seconds[place - 1], self.seconds[place]
        if size == high:
            return second_s
        slope = log(second_s / first_s) / log(high / low)
        if not low <= size <= high:
            slope = max(0.0, slope)
        return first_s * exp(slope * log(size / low))


@dataclass(frozen=True, slots=True)
class Grid:
    """Curves at increasing sizes of another axis. ``seconds`` [outer, inner]."""

    outer: tuple[float, ...]
    inner: tuple[float, ...]
    seconds: tuple[tuple[float, ...], ...]

    def at(self, outer: float, inner: float) -> float:
        """Return the time at two positive sizes."""
        place = min(max(bisect_left(self.outer, outer), 1), len(self.outer) - 1)
        ends = slice(place - 1, place + 1)
        pair = tuple(Curve(self.inner, row).at(inner) for row in self.seconds[ends])
        return Curve(self.outer[ends], pair).at(outer)


def grid_of(outer: Sequence[float], inner: Sequence[float], microseconds: Sequence[float]) -> Grid:
    """Return the grid of a flat list, the inner axis last."""
    width = len(inner)
    rows = [microseconds[i : i + width] for i in range(0, len(microseconds), width)]
    return Grid(tuple(outer), tuple(inner), tuple(tuple(1e-6 * us for us in row) for row in rows))
