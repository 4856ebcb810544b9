"""The results of a simulation."""

from dataclasses import dataclass, field

from seesaw_sim.replicas import Stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Units: seconds."""

    mean: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Results of a simulation. Units in the names; rates are from first arrival to last answer.

    ``generated_tokens`` were sampled by engines, and ``left_tokens`` of KV are held at the end;
    unless they equal ``output_tokens`` and 0, the simulator is wrong. ``seconds_by_phase`` sums
    over replicas. ``peak_buffer_tokens`` includes blocks reserved for prompts in prefill,
    ``peak_stored_tokens`` counts KV only. ``stretches`` and ``buffer`` are for pictures.
    """

    num_requests: int
    prompt_tokens: int
    output_tokens: int
    duration_s: float
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft: Percentiles
    tpot: Percentiles
    latency: Percentiles
    transitions: int
    preemptions: int
    generated_tokens: int
    left_tokens: int
    seconds_by_phase: dict[str, float]
    peak_pool_share: float
    peak_buffer_tokens: int
    peak_stored_tokens: int
    buffer_tokens: int
    stretches: tuple[Stretch, ...] = field(repr=False)
    buffer: tuple[tuple[int, float, int], ...] = field(repr=False)


def percentiles(values: list[float]) -> Percentiles:
    """Compute percentiles. Requires: there is a value."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Percentiles(mean=sum(ordered) / len(ordered), p50=at(0.5), p90=at(0.9), p99=at(0.99))
