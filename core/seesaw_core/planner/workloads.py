"""Workloads: the lengths of prompts and answers, and how many requests arrive at once.

A workload is a list of requests, or a summary of it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from seesaw_core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. Units: tokens; ``arrival_s`` in seconds from the start.

    ``block_hashes`` are of the whole blocks of its prompt, and of its output as far as later
    prompts contain it; requests whose first ones are equal begin alike.
    ``cached_tokens`` of the prompt are in the engine's prefix cache when it admits the request.
    """

    prompt_tokens: int
    output_tokens: int
    arrival_s: float = 0.0
    block_hashes: tuple[Hashable, ...] = ()
    cached_tokens: int = 0

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise InputError(
                f"a request needs at least 1 prompt and 1 output token, got "
                f"{self.prompt_tokens} and {self.output_tokens}"
            )
        if not self.arrival_s >= 0:
            raise InputError(f"arrival_s={self.arrival_s} must not be negative")
        if not 0 <= self.cached_tokens < self.prompt_tokens:
            raise InputError(
                f"cached_tokens={self.cached_tokens} must be from 0 to one less than "
                f"prompt_tokens={self.prompt_tokens}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A workload's summary for the planner. Units: tokens, counts, seconds.

    ``prompt_squares`` and ``output_squares`` are mean squares, which attention and growing contexts
    depend on. ``num_requests`` is the number of requests, None without an end; ``concurrency`` is
    the most that are in the system at a time, None without a bound. The targets are means; None
    means no target.

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
    """Summarise requests. Raises: InputError if there are none."""
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
