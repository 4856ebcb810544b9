"""Requests drawn by lot, the same for the same seed: lengths and arrivals."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log
from random import Random

from seesaw_core.errors import InputError
from seesaw_core.planner.workloads import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Lengths drawn by lot: log-normal around ``median`` with a 90th percentile, cut at ``most``.

    With ``p90`` equal to ``median`` all are alike. Units: tokens.
    """

    median: float
    p90: float
    most: int = 1 << 20

    def __post_init__(self) -> None:
        if not 1 <= self.median <= self.p90:
            raise InputError(
                f"lengths: median={self.median} must be at least 1 and at most p90={self.p90}"
            )

    @classmethod
    def around(cls, mean: float, *, spread: float = 0.0, most: int = 1 << 20) -> "Lengths":
        """With this mean; ``spread`` is the deviation of the logarithm, 0 for all alike."""
        median = max(1.0, mean * exp(-(spread**2) / 2))
        return cls(median=median, p90=median * exp(_P90 * spread), most=most)

    def draw(self, count: int, lots: Random) -> list[int]:
        spread = log(self.p90 / self.median) / _P90
        return [
            max(1, min(self.most, round(self.median * exp(spread * lots.gauss(0, 1)))))
            for _ in range(count)
        ]


_P90 = 1.2815515655446004  # of the standard normal distribution


def draw_requests(
    count: int, *, prompts: Lengths, outputs: Lengths, seed: int = 0, longest: int | None = None
) -> list[Request]:
    """Requests that all come at once; prompts are cut so that ``longest`` tokens hold both."""
    lots = Random(seed)
    inputs, answers = prompts.draw(count, lots), outputs.draw(count, lots)
    requests = []
    for prompt, output in zip(inputs, answers, strict=True):
        answer = output if longest is None else min(output, longest - 1)
        fits = prompt if longest is None else min(prompt, longest - answer)
        requests.append(Request(prompt_tokens=fits, output_tokens=answer))
    return requests


def arriving(requests: Iterable[Request], *, per_s: float, seed: int = 0) -> list[Request]:
    """The same requests, coming one by one at random, ``per_s`` a second (Poisson).

    Raises: InputError if ``per_s`` is not above 0.
    """
    if not per_s > 0:
        raise InputError(f"arrivals per second must be above 0, got {per_s}")
    lots, now, placed = Random(seed), 0.0, []
    for r in requests:
        now += lots.expovariate(per_s)
        placed.append(
            Request(prompt_tokens=r.prompt_tokens, output_tokens=r.output_tokens, arrival_s=now)
        )
    return placed
