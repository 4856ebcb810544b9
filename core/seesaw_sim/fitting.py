"""Fits a profile to measured runs of the real engine, by simulating the same runs.

The fit minimises the squares of errors in the logarithms of durations, by the Levenberg-Marquardt
method in the logarithms of the profile's constants. A weak pull keeps constants that the
measurements do not determine near their start.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt

from seesaw_core.planner.profiles import Profile
from seesaw_core.planner.workloads import Request
from seesaw_sim.simulate import Scenario, simulate

FITTED = (
    "compute_share",
    "attention_share",
    "memory_share",
    "roofline_power",
    "nvlink_all_reduce_share",
    "pcie_all_reduce_share",
    "all_reduce_latency_us",
    "send_latency_us",
    "layer_overhead_us",
    "step_overhead_ms",
    "request_overhead_us",
)
# Weight of a constant's logarithm beside that of a duration: small enough for a constant that the
# measurements determine to move freely.
_PULL = 0.05
_STEP = 0.02  # of a logarithm; simulations have whole rounds, so smaller steps measure noise
_MOST_ROUNDS = 60  # a bound; fits end when a round gains too little
_MOST_DAMPING = 1e6  # with more damping, steps are too short to change a simulation
_LEAST_GAIN = 1e-7  # of the sum of squares; less would not show in a table
_LEAST = 1e-3  # microseconds, milliseconds or share; a logarithm needs a positive constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured run: requests that were sent at once, and the time until the last answer.

    ``scenario`` is the system that served them, with any profile.
    """

    name: str
    scenario: Scenario
    requests: tuple[Request, ...]
    seconds: float

    def predicted_s(self, profile: Profile) -> float:
        return simulate(replace(self.scenario, profile=profile), self.requests).duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted profile. ``error`` is the root mean square of the relative errors."""

    profile: Profile
    error: float
    rounds: int


def fit(measurements: Sequence[Measurement], start: Profile) -> Fit:
    """Fit :data:`FITTED`. Requires: at least one measurement, all of positive length."""
    origin = [log(max(_LEAST, getattr(start, name))) for name in FITTED]

    def profile(point: Sequence[float]) -> Profile:
        values = dict(zip(FITTED, map(exp, point), strict=True))
        bounded = {n: min(1.0, v) if n.endswith("_share") else v for n, v in values.items()}
        bounded["roofline_power"] = max(1.0, bounded["roofline_power"])
        return replace(start, **bounded)  # type: ignore[arg-type]

    def residuals(point: Sequence[float]) -> list[float]:
        candidate = profile(point)
        errors = [log(m.predicted_s(candidate) / m.seconds) for m in measurements]
        pull = [_PULL * (x - o) for x, o in zip(point, origin, strict=True)]
        return errors + pull

    point, rounds = _least_squares(residuals, origin)
    errors = residuals(point)[: len(measurements)]
    rms = sqrt(sum(e**2 for e in errors) / len(errors))
    return Fit(profile=profile(point), error=rms, rounds=rounds)


def _least_squares(
    residuals: Callable[[Sequence[float]], list[float]], start: list[float]
) -> tuple[list[float], int]:
    """Return the point near ``start`` with the smallest sum of squares, and the rounds taken."""
    point, damping = list(start), 1e-2
    errors = residuals(point)
    for number in range(1, _MOST_ROUNDS + 1):
        columns = [_slope(residuals, point, errors, index) for index in range(len(point))]
        gained = 0.0
        while gained <= 0 and damping < _MOST_DAMPING:
            step = _damped_step(columns, errors, damping)
            next_point = [x - s for x, s in zip(point, step, strict=True)]
            next_errors = residuals(next_point)
            gained = _square(errors) - _square(next_errors)
            if gained > 0:
                point, errors = next_point, next_errors
            damping = damping / 4 if gained > 0 else damping * 4
        if gained < _LEAST_GAIN * (1 + _square(errors)):
            return point, number
    return point, _MOST_ROUNDS


def _slope(
    residuals: Callable[[Sequence[float]], list[float]],
    point: list[float],
    errors: list[float],
    index: int,
) -> list[float]:
    moved = list(point)
    moved[index] += _STEP
    return [(m - e) / _STEP for m, e in zip(residuals(moved), errors, strict=True)]


def _damped_step(columns: list[list[float]], errors: list[float], damping: float) -> list[float]:
    square = [[_dot(one, two) for two in columns] for one in columns]
    for index in range(len(columns)):
        square[index][index] *= 1 + damping
    return _solve(square, [_dot(column, errors) for column in columns])


def _dot(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


def _square(errors: list[float]) -> float:
    return _dot(errors, errors)


def _solve(square: list[list[float]], right: list[float]) -> list[float]:
    """Solve linear equations by Gaussian elimination with pivots."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(square, right, strict=True)]
    for index in range(size):
        pivot = max(range(index, size), key=lambda r: abs(rows[r][index]))
        rows[index], rows[pivot] = rows[pivot], rows[index]
        for other in range(index + 1, size):
            factor = rows[other][index] / rows[index][index]
            for column in range(index, size + 1):
                rows[other][column] -= factor * rows[index][column]
    solution = [0.0] * size
    for index in reversed(range(size)):
        known = sum(rows[index][column] * solution[column] for column in range(index + 1, size))
        solution[index] = (rows[index][size] - known) / rows[index][index]
    return solution
