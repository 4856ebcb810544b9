"""Estimates: the throughput of a workload under a layout or a pair of layouts.

Estimates are closed forms for the steady state under saturation, fast enough to try every layout.
The simulator applies the same costs step by step, and models queues, waves and tails as well.

Source: Su et al., Seesaw (arXiv 2503.06433), appendix A and section 4.2.
Deviation: chunked prefill, pipeline bubbles, the buffer's size, transitions and latency are added.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import exp, inf

from seesaw_core.layouts import Layout, LayoutPair
from seesaw_core.planner.bands import Band
from seesaw_core.planner.costs import MicroBatch, StepCosts
from seesaw_core.planner.cycles import Pace
from seesaw_core.planner.memory import (
    EngineLimits,
    Memory,
    Unfit,
    kv_shortage,
    pair_memory,
    static_memory,
)
from seesaw_core.planner.tails import extra_s
from seesaw_core.planner.workloads import Workload
from seesaw_core.resharding.policy import CATCH_UP, PhasePolicy

_DWELL = PhasePolicy().dwell_transitions
# With bounded concurrency, the least share of the requests in the system that waves carry: an
# assumption. Without it, predictions are far below what `seesaw simulate --concurrency` finds.
_LEAST_WAVE = 1 / 3
# Rounds that end a busy stretch leave at least half of their room unused, on average.
_LEAST_UNUSED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Predicted performance of one choice. Units are in the names.

    ``prefill`` equals ``decode`` for a static layout. ``step_tokens`` and ``max_requests`` are the
    values for vLLM's flags. ``shares`` are the shares of time in prefill, decode and transitions; a
    static layout mixes the first two. ``ttft_s`` is None without a bounded concurrency, where the
    queue only grows. The true rates are between ``band.low`` and ``band.high`` times these, and
    the times between their inverses; None if that was not asked for.
    """

    prefill: Layout
    decode: Layout
    step_tokens: int
    max_requests: int
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    tpot_s: float
    ttft_s: float | None
    memory: Memory
    num_running: float
    shares: tuple[float, float, float] = (0.0, 1.0, 0.0)
    band: Band | None = None

    @property
    def pair(self) -> LayoutPair:
        return LayoutPair(prefill=self.prefill, decode=self.decode)

    @property
    def is_static(self) -> bool:
        return self.pair.is_static

    def __str__(self) -> str:
        return str(self.pair)


def estimate_static(costs: StepCosts, workload: Workload, limits: EngineLimits) -> Estimate | Unfit:
    """Estimate a static layout with chunked prefill, at the best step size that is allowed."""
    tried = [_static(costs, workload, each, n) for each, n in _settings(limits, workload)]
    return _best_of(tried, workload)


def estimate_pair(
    prefill: StepCosts, decode: StepCosts, workload: Workload, limits: EngineLimits
) -> Estimate | Unfit:
    """Estimate a pair that re-shards, at the best prefill step size that is allowed."""
    tried = [_pair(prefill, decode, workload, each, n) for each, n in _settings(limits, workload)]
    return _best_of(tried, workload)


def _settings(limits: EngineLimits, workload: Workload) -> Iterator[tuple[EngineLimits, int]]:
    """Yield limits and step sizes to try, with smaller batches too if there is a TPOT target."""
    requests = limits.max_requests
    while requests:
        for tokens in limits.step_tokens:
            yield replace(limits, max_requests=requests), tokens
        requests = requests // 2 if workload.tpot_target_s is not None else 0


def _best_of(tried: Sequence[Estimate | Unfit], workload: Workload) -> Estimate | Unfit:
    """Return the fastest estimate that meets the latency targets, or why there is none."""
    meeting: list[Estimate] = []
    missing: list[tuple[float, Unfit]] = []
    for estimate in tried:
        if isinstance(estimate, Unfit):
            continue
        missed = _missed_target(estimate, workload)
        if missed is None:
            meeting.append(estimate)
        else:
            missing.append((estimate.tpot_s, missed))
    if meeting:
        return max(meeting, key=lambda e: e.requests_per_s)
    return min(missing, key=lambda m: m[0])[1] if missing else tried[0]


def _missed_target(estimate: Estimate, workload: Workload) -> Unfit | None:
    """Return which latency target the estimate misses, or None if it meets all."""
    tpot_s, ttft_s = estimate.tpot_s, estimate.ttft_s
    target_s = workload.tpot_target_s
    if target_s is not None and tpot_s > target_s:
        return Unfit(
            reason=f"{1e3 * tpot_s:,.0f} ms a token, above the target of {1e3 * target_s:,.0f} ms"
        )
    target_s = workload.ttft_target_s
    if target_s is not None and ttft_s is not None and ttft_s > target_s:
        return Unfit(
            reason=f"{ttft_s:,.1f} s to the first token, above the target of {target_s:,.1f} s"
        )
    return None


def _static(
    costs: StepCosts, workload: Workload, limits: EngineLimits, step_tokens: int
) -> Estimate | Unfit:
    memory = static_memory(costs, limits, step_tokens, _mean_context(workload))
    if shortage := _shortage(memory, workload, costs):
        return shortage
    groups = costs.layout.pipeline
    running = min(_num_running(memory, workload, limits), _share(workload, costs.layout))
    in_group = max(1.0, running / groups)
    ratio = workload.prompt_tokens / workload.output_tokens
    in_group = min(in_group, step_tokens / (1 + ratio))  # prefill must keep up with them
    running = min(running, in_group * groups)
    # Prompts come one by one, and a round computes as many of their tokens as its groups have room
    # for. A group with a chunk delays all others, which leaves bubbles in the pipeline.
    wanted = running * ratio
    room_in_group = max(1.0, step_tokens - in_group)
    often = _share_with_chunks(wanted, workload.prompt_tokens, groups * room_in_group)
    chunk = min(room_in_group, wanted / often)
    mixed_s = costs.step_s(_mixed(workload, in_group, chunk))
    plain_s = costs.step_s(_mixed(workload, in_group, 0.0))
    round_s = groups * (often * mixed_s + (1 - often) * plain_s)
    half_s = costs.step_s(_mixed(workload, in_group / 2, chunk))
    filling_s = often * groups * workload.output_tokens * max(0.0, half_s - mixed_s + plain_s / 2)
    per_s = running / (workload.output_tokens * round_s)
    per_s = _with_ends(per_s, running, costs, workload, filling_s)
    prefill_share = min(1.0, often * (mixed_s - plain_s) * groups / round_s)
    replica = Estimate(
        prefill=costs.layout,
        decode=costs.layout,
        step_tokens=step_tokens,
        max_requests=limits.max_requests,
        requests_per_s=per_s,
        output_tokens_per_s=0.0,
        total_tokens_per_s=0.0,
        tpot_s=round_s,
        ttft_s=None,
        memory=memory,
        num_running=running,
        shares=(prefill_share, 1 - prefill_share, 0.0),
    )
    return _all_replicas(replica, workload, costs.layout)


def _pair(
    prefill: StepCosts,
    decode: StepCosts,
    workload: Workload,
    limits: EngineLimits,
    step_tokens: int,
) -> Estimate | Unfit:
    memory = pair_memory(prefill, decode, limits, step_tokens, workload.longest_tokens)
    if shortage := _shortage(memory, workload, decode):
        return shortage
    buffer = memory.buffer_tokens
    if buffer < workload.prompt_tokens:  # a few prompts longer than the buffer would go in place
        return Unfit(
            reason=f"the KV buffer holds {buffer:,.0f} tokens, fewer than the mean prompt's "
            f"{workload.prompt_tokens:,.0f}"
        )
    share = _share(workload, decode.layout)
    running = min(_num_running(memory, workload, limits), share)
    wave = buffer / workload.prompt_tokens
    if workload.concurrency is not None:  # running and waiting requests share the concurrency
        wave = min(wave, max(share - running, share * _LEAST_WAVE))
        running = max(1.0, min(running, share - wave / 2))  # half a wave waits on average
    wave = min(wave, share)
    token_s = workload.output_tokens / running * _decode_round_s(decode, workload, running)
    transitions_s = prefill.transition_s() + decode.transition_s()
    flush_s = max(limits.flush_timeout_s, _DWELL * transitions_s / 2)
    is_flushed = (whole_s := _wave_s(prefill, workload, wave, step_tokens)) > flush_s
    pace = Pace(
        prefilled=wave * flush_s / whole_s if is_flushed else wave,
        decoded=min(wave, flush_s / token_s),
        buffer=buffer / workload.prompt_tokens,
        running=running,
    )
    wave = pace.wave(share if workload.concurrency is None and share < inf else None)
    prefill_s = _wave_s(prefill, workload, wave, step_tokens)
    decode_s = max(wave * token_s, CATCH_UP * flush_s if is_flushed and wave < share else 0.0)
    cycle_s = prefill_s + decode_s + transitions_s
    rounds = wave * workload.output_tokens / running
    per_s = _with_ends(wave / cycle_s, running, decode, workload)
    replica = Estimate(
        prefill=prefill.layout,
        decode=decode.layout,
        step_tokens=step_tokens,
        max_requests=limits.max_requests,
        requests_per_s=per_s,
        output_tokens_per_s=0.0,
        total_tokens_per_s=0.0,
        tpot_s=cycle_s / rounds,
        ttft_s=None,
        memory=memory,
        num_running=running,
        shares=(prefill_s / cycle_s, decode_s / cycle_s, transitions_s / cycle_s),
    )
    return _all_replicas(replica, workload, decode.layout)


def _wave_s(costs: StepCosts, workload: Workload, requests: float, step_tokens: int) -> float:
    """Seconds to prefill ``requests`` prompts in full micro-batches, filling the pipeline once."""
    tokens = requests * workload.prompt_tokens
    step = min(float(step_tokens), tokens)
    pairs = step * workload.prompt_squares / (2 * workload.prompt_tokens)
    batch = MicroBatch(prefill_tokens=round(step), prefill_pairs=pairs, sampled=1)
    stage_s = max(costs.step_s(batch), costs.kv_copy_s(step))
    return (tokens / step + costs.layout.pipeline - 1) * stage_s


def _decode_round_s(costs: StepCosts, workload: Workload, running: float) -> float:
    """Seconds for a token of each running request, while the KV of new requests arrives."""
    groups = costs.layout.pipeline
    in_group = max(1.0, running / groups)
    round_s = groups * costs.step_s(_mixed(workload, in_group, 0.0))
    arriving = running / workload.output_tokens
    return max(round_s, arriving * costs.kv_copy_s(workload.prompt_tokens))


def _mixed(workload: Workload, decoding: float, prefill_tokens: float) -> MicroBatch:
    pairs = prefill_tokens * workload.prompt_squares / (2 * workload.prompt_tokens)
    return MicroBatch(
        prefill_tokens=round(prefill_tokens),
        prefill_pairs=pairs,
        decode_requests=max(1, round(decoding)),
        decode_context=decoding * _mean_context(workload),
    )


def _mean_context(workload: Workload) -> float:
    """Mean tokens of KV of a running request. Long answers run longer, so they weigh more."""
    return workload.prompt_tokens + workload.output_squares / (2 * workload.output_tokens)


def _num_running(memory: Memory, workload: Workload, limits: EngineLimits) -> float:
    return min(float(limits.max_requests), max(1.0, memory.kv_tokens / _mean_context(workload)))


def _share_with_chunks(wanted: float, prompt_tokens: float, room: float) -> float:
    """Share of rounds with a chunk of a prompt, if prompts come at random.

    ``wanted`` is the mean number of prompt tokens per round, ``room`` the most that a round takes.
    """
    prompts, each = wanted / prompt_tokens, prompt_tokens / room
    # Of the last round of each stretch of busy ones.
    unused = prompts * max(_LEAST_UNUSED, 1 - each)
    busy = (wanted / room + unused) / (1 + unused)
    if each < 1:
        busy = max(busy, 1 - exp(-prompts))
    return min(1.0, busy)


def _with_ends(
    per_s: float, running: float, costs: StepCosts, workload: Workload, filling_s: float = 0.0
) -> float:
    """Correct a steady rate for the start and the end, where fewer requests run at once.

    ``filling_s`` is how much longer the start takes than the same work in full batches.
    """
    if workload.num_requests is None:
        return per_s
    count = workload.num_requests / costs.layout.data
    drain_s = extra_s(workload, running, count, partial(_decode_round_s, costs, workload))
    return count / (count / per_s + filling_s + drain_s)


def _share(workload: Workload, layout: Layout) -> float:
    """Requests in the system per data-parallel replica."""
    known = [n for n in (workload.concurrency, workload.num_requests) if n is not None]
    return max(1.0, min(known) / layout.data) if known else inf


def _shortage(memory: Memory, workload: Workload, costs: StepCosts) -> Unfit | None:
    """Return why the model or its longest request does not fit in memory, or None if both fit."""
    room = memory.kv_tokens
    if 0 < room < workload.longest_tokens:
        return Unfit(
            reason=f"{room:,} tokens of KV fit, fewer than the longest request's "
            f"{workload.longest_tokens:,}"
        )
    return kv_shortage(memory, costs)


def _all_replicas(replica: Estimate, workload: Workload, layout: Layout) -> Estimate:
    """Scale one data-parallel replica's estimate to all, and derive rates of tokens and TTFT."""
    busy = layout.data  # replicas that have requests
    if workload.concurrency is not None:
        busy = min(busy, workload.concurrency)
    per_s = replica.requests_per_s * busy
    ttft_s = None
    if workload.concurrency is not None:  # Little's law: a request waits while it does not decode
        latency_s = workload.concurrency / per_s
        ttft_s = max(0.0, latency_s - workload.output_tokens * replica.tpot_s)
    return replace(
        replica,
        requests_per_s=per_s,
        output_tokens_per_s=per_s * workload.output_tokens,
        total_tokens_per_s=per_s * (workload.prompt_tokens + workload.output_tokens),
        ttft_s=ttft_s,
        num_running=replica.num_running * busy,
    )
