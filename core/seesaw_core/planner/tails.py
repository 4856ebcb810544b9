"""The end of a workload: the last requests decode in ever smaller batches.

Output lengths are modelled as log-normal with the workload's mean and mean square, cut at its
longest. Source: renewal theory; the remaining output of a request that is observed while it runs
has the density ``(1 - F(x)) / mean``.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from math import exp, log, sqrt
from statistics import NormalDist

from seesaw_core.planner.workloads import Workload

_STEPS = 16  # with 256, rates of whole workloads differ by 0.2 % on average and by 0.8 % at most
_NEXT_TO_NONE = 1e-6  # of a request, or of a deviation: far below what shows in a rate
_NORMAL = NormalDist()


def extra_s(
    workload: Workload, running: float, count: float, round_s: Callable[[float], float]
) -> float:
    """Seconds that the end takes longer than the same tokens in full batches.

    ``round_s`` returns the seconds in which each of a number of requests gets a token. Of ``count``
    requests, ``running`` run at a time.
    """
    mean, squares = workload.output_tokens, workload.output_squares
    running = min(running, count)
    # The share of the requests that are under way when the end begins; the others start then.
    under_way = min(1.0, max(0.0, count / running - 1))
    left = (1 - under_way) * mean + under_way * squares / (2 * mean)
    drain_s = 0.0
    curve = _curve(mean, squares, float(workload.longest_output_tokens))
    for tokens, whole, residual in curve:
        alive = running * ((1 - under_way) * whole + under_way * residual)
        if alive < _NEXT_TO_NONE:
            break
        drain_s += tokens * min(1.0, alive) * round_s(max(1.0, alive))
    return max(0.0, drain_s - left * round_s(running))


@lru_cache(maxsize=64)
def _curve(mean: float, squares: float, longest: float) -> tuple[tuple[float, float, float], ...]:
    """Spans of tokens, with the shares of whole and of remaining outputs that are longer."""
    return tuple(_spans(mean, max(1.0, squares / mean**2), longest))


def _spans(mean: float, ratio: float, longest: float) -> Iterator[tuple[float, float, float]]:
    deviation = sqrt(log(ratio))
    middle = log(mean) - deviation**2 / 2
    edges = [longest * (step / _STEPS) ** 2 for step in range(_STEPS + 1)]
    for begins, ends in pairwise(edges):
        at = (begins + ends) / 2
        if deviation < _NEXT_TO_NONE:
            whole, residual = float(at < exp(middle)), max(0.0, 1 - at / mean)
        else:
            place = (middle - log(at)) / deviation
            whole = _NORMAL.cdf(place)
            residual = max(0.0, _NORMAL.cdf(place + deviation) - at / mean * whole)
        yield ends - begins, whole, residual
