"""Workloads: the lengths of prompts and answers, and how many requests come at once.

A workload is a list of requests, or their means. Traces are CSV, in the form of the public Azure
LLM inference traces: a header, then a line a request with its arrival and both lengths.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import exp, log
from random import Random

from seesaw_core.errors import InputError

_ARRIVAL = ("arrival_s", "timestamp", "time")
_PROMPT = ("prompt_tokens", "contexttokens", "input_tokens", "request tokens")
_OUTPUT = ("output_tokens", "generatedtokens", "response tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. Units: tokens; ``arrival_s`` in seconds from the start."""

    prompt_tokens: int
    output_tokens: int
    arrival_s: float = 0.0

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise InputError(
                f"a request needs at least 1 prompt and 1 output token, got "
                f"{self.prompt_tokens} and {self.output_tokens}"
            )
        if not self.arrival_s >= 0:
            raise InputError(f"arrival_s={self.arrival_s} must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What a planner must know: means, spread and pressure. Units: tokens, counts, seconds.

    ``prompt_squares`` and ``output_squares`` are mean squares, which attention and growing
    contexts need. ``num_requests`` come in all, None for no end; ``concurrency`` is how many are in the system at
    a time, None for as many as come. The targets are means; None asks for throughput alone.

    Raises: InputError if a figure is out of range.
    """

    prompt_tokens: float
    output_tokens: float
    prompt_squares: float = 0.0
    output_squares: float = 0.0
    longest_tokens: int = 0
    longest_output_tokens: int = 0
    num_requests: int | None = None
    concurrency: int | None = None
    ttft_target_s: float | None = None
    tpot_target_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "output_tokens"):
            if not getattr(self, name) >= 1:
                raise InputError(f"workload: {name}={getattr(self, name)} must be at least 1")
        for name in ("num_requests", "concurrency", "ttft_target_s", "tpot_target_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"workload: {name}={value} must be above 0")
        for squares, mean in (
            ("prompt_squares", self.prompt_tokens),
            ("output_squares", self.output_tokens),
        ):
            object.__setattr__(self, squares, max(getattr(self, squares), mean**2))
        longest = max(self.longest_tokens, round(self.prompt_tokens + self.output_tokens))
        object.__setattr__(self, "longest_tokens", longest)
        longest_output = max(self.longest_output_tokens, round(self.output_tokens))
        object.__setattr__(self, "longest_output_tokens", longest_output)


def summarise(
    requests: Sequence[Request],
    *,
    concurrency: int | None = None,
    ttft_target_s: float | None = None,
    tpot_target_s: float | None = None,
) -> Workload:
    """The means of some requests. Raises: InputError if there are none."""
    if not requests:
        raise InputError("the workload has no requests")
    count = len(requests)
    return Workload(
        prompt_tokens=sum(r.prompt_tokens for r in requests) / count,
        output_tokens=sum(r.output_tokens for r in requests) / count,
        prompt_squares=sum(r.prompt_tokens**2 for r in requests) / count,
        output_squares=sum(r.output_tokens**2 for r in requests) / count,
        longest_tokens=max(r.prompt_tokens + r.output_tokens for r in requests),
        longest_output_tokens=max(r.output_tokens for r in requests),
        num_requests=count,
        concurrency=concurrency,
        ttft_target_s=ttft_target_s,
        tpot_target_s=tpot_target_s,
    )


def read_trace(text: str, *, source: str) -> list[Request]:
    """Requests of a CSV trace, in order of arrival, the first at 0 s.

    Columns, by any of their names and in any case: arrival_s or TIMESTAMP (seconds, or a date and
    time), prompt_tokens or ContextTokens, output_tokens or GeneratedTokens.
    Raises: InputError naming ``source``, the line, the column and what would be accepted.
    """
    lines = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    names = {n.strip().casefold(): n for n in lines.fieldnames or () if n}
    columns = {}
    for wanted in (_ARRIVAL, _PROMPT, _OUTPUT):
        found = next((names[n] for n in wanted if n in names), None)
        if found is None:
            raise InputError(
                f"{source}: no column {wanted[0]} (or {', '.join(wanted[1:])}); "
                f"the header has {lines.fieldnames or 'nothing'}"
            )
        columns[wanted[0]] = found
    requests = []
    for number, line in enumerate(lines, 2):
        at = f"{source}: line {number}"
        requests.append(
            Request(
                arrival_s=_moment(line.get(columns["arrival_s"]), f"{at}: arrival_s"),
                prompt_tokens=_tokens(line.get(columns["prompt_tokens"]), f"{at}: prompt_tokens"),
                output_tokens=_tokens(line.get(columns["output_tokens"]), f"{at}: output_tokens"),
            )
        )
    if not requests:
        raise InputError(f"{source}: no requests after the header")
    first = min(r.arrival_s for r in requests)
    shifted = [
        Request(
            arrival_s=r.arrival_s - first,
            prompt_tokens=r.prompt_tokens,
            output_tokens=r.output_tokens,
        )
        for r in requests
    ]
    return sorted(shifted, key=lambda r: r.arrival_s)


def _tokens(value: str | None, at: str) -> int:
    try:
        tokens = int(value or "")
    except ValueError:
        tokens = 0
    if tokens < 1:
        raise InputError(f"{at}={value!r} must be a whole number of at least 1")
    return tokens


def _moment(value: str | None, at: str) -> float:
    text = (value or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        whole, dot, fraction = text.partition(".")
        try:  # fractions beyond microseconds, as Azure writes them, are cut
            seconds = datetime.fromisoformat(whole + dot + fraction[:6]).timestamp()
        except ValueError:
            raise InputError(f"{at}={value!r} must be seconds or a date and time") from None
    if not 0 <= seconds < float("inf"):
        raise InputError(f"{at}={value!r} must not be negative")
    return seconds


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
