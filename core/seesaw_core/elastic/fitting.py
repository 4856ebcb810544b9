"""Fits the cost of a prefill iteration to measured ones, by least squares.

Source: Wu et al., LoongServe (arXiv 2404.09526), section 5.5, the scaling information base.
Deviation: errors count as shares of each time, and no constant may be negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from seesaw_core.elastic.costs import PrefillCost
from seesaw_core.errors import InputError

_NUM_CONSTANTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured prefill iteration. Units: tokens, seconds."""

    lengths: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted cost. Units: errors as shares of the measured time."""

    cost: PrefillCost
    mean_error: float
    worst_error: float


def fit_prefill_cost(samples: Sequence[Sample]) -> Fit:
    """Fit the three constants of one degree.

    Raises: InputError with fewer samples than constants.
    """
    if len(samples) < _NUM_CONSTANTS:
        raise InputError(f"a fit needs at least {_NUM_CONSTANTS} samples, got {len(samples)}")
    rows = np.array(
        [(1.0, sum(s.lengths), sum(n * n for n in s.lengths)) for s in samples], dtype=np.float64
    )
    seconds = np.array([s.seconds for s in samples])
    alpha, beta, gamma = _non_negative(rows / seconds[:, None])
    cost = PrefillCost(alpha_s=alpha, beta_s=beta, gamma_s=gamma)
    errors = [abs(cost.seconds(s.lengths) / s.seconds - 1.0) for s in samples]
    return Fit(cost=cost, mean_error=sum(errors) / len(errors), worst_error=max(errors))


def _non_negative(rows: np.ndarray) -> list[float]:
    """Return the least-squares solution of ``rows @ x = 1`` without negative ``x``.

    Shapes: rows [samples, constants]. With so few constants it is the best of the solutions in
    which some of them are 0.
    """
    scale = rows.max(axis=0)
    best, best_error = [0.0] * _NUM_CONSTANTS, float("inf")
    for size in range(1, _NUM_CONSTANTS + 1):
        for columns in combinations(range(_NUM_CONSTANTS), size):
            part = (rows / scale)[:, columns]
            solved, *_ = np.linalg.lstsq(part, np.ones(len(part)), rcond=None)
            error = float(((part @ solved - 1.0) ** 2).sum())
            if solved.min() >= 0.0 and error < best_error:
                best, best_error = [0.0] * _NUM_CONSTANTS, error
                for column, value in zip(columns, solved, strict=True):
                    best[column] = float(value / scale[column])
    return best
