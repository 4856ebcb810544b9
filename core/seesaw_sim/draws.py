"""Random requests, the same for the same seed: lengths and arrivals."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log
from random import Random

from seesaw_core.errors import InputError
from seesaw_core.planner.workloads import Request

_P90 = 1.2815515655446004  # 90th percentile of the standard normal distribution
_MOST = 1 << 20  # tokens, about the longest context of today's models


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """A log-normal distribution of lengths, cut at ``most``. Units: tokens.

    With ``p90``, the 90th percentile, equal to ``median``, all lengths are equal.
    """

    median: float
    p90: float
    most: int = _MOST

    def __post_init__(self) -> None:
        if not 1 <= self.median <= self.p90:
            raise InputError(
                f"lengths: median={self.median} must be at least 1 and at most p90={self.p90}"
            )

    @classmethod
    def around(cls, mean: float, *, spread: float = 0.0, most: int = _MOST) -> "Lengths":
        """Return lengths with this mean. ``spread`` is the standard deviation of the logarithm."""
        median = max(1.0, mean * exp(-(spread**2) / 2))
        return cls(median=median, p90=median * exp(_P90 * spread), most=most)

    def draw(self, count: int, random: Random) -> list[int]:
        spread = log(self.p90 / self.median) / _P90
        return [
            max(1, min(self.most, round(self.median * exp(spread * random.gauss(0, 1)))))
            for _ in range(count)
        ]


def draw_requests(
    count: int, *, prompts: Lengths, outputs: Lengths, seed: int = 0, longest: int | None = None
) -> list[Request]:
    """Draw requests that arrive at once. A request is cut to at most ``longest`` tokens."""
    random = Random(seed)
    inputs, answers = prompts.draw(count, random), outputs.draw(count, random)
    requests = []
    for prompt, output in zip(inputs, answers, strict=True):
        answer = output if longest is None else min(output, longest - 1)
        fits = prompt if longest is None else min(prompt, longest - answer)
        requests.append(Request(prompt_tokens=fits, output_tokens=answer))
    return requests


def arriving(requests: Iterable[Request], *, per_s: float, seed: int = 0) -> list[Request]:
    """Return the requests with random arrivals, a Poisson process of ``per_s`` per second.

    Raises: InputError if ``per_s`` is not above 0.
    """
    if not per_s > 0:
        raise InputError(f"arrivals per second must be above 0, got {per_s}")
    random, now, arrivals = Random(seed), 0.0, []
    for r in requests:
        now += random.expovariate(per_s)
        arrivals.append(
            Request(prompt_tokens=r.prompt_tokens, output_tokens=r.output_tokens, arrival_s=now)
        )
    return arrivals
