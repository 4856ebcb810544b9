"""The systems of LoongServe's evaluation, on eight A800, with one set of constants for all rows.

The hardware's constants are fitted to the iteration times that the authors measured with their own
kernels (``MEASURED``). What differs from system to system is its software: the time that it spends
on a step, on a request and on a token of context besides the kernels, and its attention kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from seesaw_core.elastic.driver import ElasticDriver
from seesaw_core.elastic.manager import ElasticPolicy
from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.costs import MicroBatch, StepCosts
from seesaw_core.planner.group_costs import ContextParallelCosts, GroupStepCosts
from seesaw_core.planner.models import dense_model
from seesaw_core.planner.profiles import Profile
from seesaw_sim.clock import Clock
from seesaw_sim.engine import Engine
from seesaw_sim.older_engines import (
    ChunkApieceEngine,
    LongestContextEngine,
    Tiling,
    WholePromptEngine,
)
from seesaw_sim.replicas import Journal, Server
from seesaw_sim.sequences import Sequence as SimulatedSequence
from seesaw_sim.systems.disaggregated import DisaggregatedServer
from seesaw_sim.systems.elastic import ElasticServer
from seesaw_sim.systems.static import StaticServer

LWM = dense_model(
    name="LWM-1M-7B",
    shape=ModelShape(num_layers=32, num_heads=32, num_kv_heads=32, head_dim=128),
    hidden=4096,
    intermediate=11008,
    vocab=32000,
)
_A100 = builtin_catalogue().accelerator("A100-SXM-80")
# An A800 is an A100 whose NVLink carries 400 instead of 600 GB/s, both directions together.
A800 = replace(_A100, peer_link=replace(_A100.peer_link, name="nvlink3-400", bytes_per_s=200e9))
# Milliseconds of iterations of LoongServe's kernels: requests, prompt tokens of each, then prefill
# and decode under TP8, TP4 x SP2 and TP2 x SP4.
# Source: the output of the artefact's notebook that draws the paper's figure 3.
MEASURED = (
    (512, 1_000, (7757, 38.9), (5776, 42.5), (5267, 42.3)),
    (128, 5_000, (10157, 37.8), (7694, 40.3), (7072, 41.4)),
    (64, 10_000, (10792, 36.4), (8306, 38.1), (7701, 40.1)),
    (16, 50_000, (19506, 42.9), (16595, 44.9), (15744, 45.9)),
    (4, 100_000, (13546, 26.4), (12147, 28.0), (11798, 28.9)),
    (1, 500_000, (51135, 37.6), (51700, 41.6), (53606, 37.8)),
)
HARDWARE = Profile(
    name="LoongServe's kernels on A800",
    measured_kernels=False,
    compute_share=0.609,
    attention_share=0.555,
    nvlink_all_reduce_share=0.726,
    memory_share=0.64,
    layer_overhead_us=18.6,
    all_reduce_latency_us=2.4,
    step_overhead_ms=2.8,
    request_overhead_us=3.0,
)
# LightLLM, LoongServe with its ablations, and DistServe serve by the same kind of processes: a
# router in Python calls each rank in every step and waits for all of them, and hands each token to
# a second process for its text, and that to a third for HTTP.
# Source: _decode_batch of LightLLM's and LoongServe's router/manager.py.
_CALL_MS, _TOKEN_US = 0.8, 50.0
_PACE = 10  # max_wait_tokens of both routers


def _routed(ranks: int) -> Profile:
    step_ms = HARDWARE.step_overhead_ms + ranks * _CALL_MS
    return replace(HARDWARE, step_overhead_ms=step_ms, request_overhead_us=_TOKEN_US)


# Kernels before FlashAttention-2 reach 0.33 of the peak, as xformers' (vLLM 0.3, DistServe), and at
# least 0.30. Source: Dao, FlashAttention-2 (arXiv 2307.08691), sections 1 and 4.1.
_OLD_ATTENTION, _LEAST_ATTENTION = 0.33, 0.30
# LightLLM's kernel for chunks has 8 warps for 128 queries and 128 keys, whose accumulators leave
# the registers of a multiprocessor no room for a second thread block. It finds each token's KV by
# an index, and does not read ahead (num_stages=1).
# Source: splitfuse_context_flashattention_nopad.py in branch loongserve-baseline of
# interestingLSY/lightllm, which the artefact measured.
_MULTIPROCESSORS, _TILE_TOKENS = 108, 128  # of an A100; queries of a thread block
# vLLM 0.3 as the artefact starts it (--engine-use-ray, --worker-use-ray) sends the tokens of every
# running request to eight workers in each step, and its text to the client once more. A step with
# few requests takes 21 ms.
# Source: times of 1,000 requests that the artefact's notebook of the evaluation prints.
_VLLM = replace(HARDWARE, step_overhead_ms=14.0, attention_share=_OLD_ATTENTION)
_VLLM_TOKEN_S = 0.4e-6
# DistServe's attention of a decode step gives each head of a request one block of 256 threads: an
# output token of L-Eval takes 295 ms in the mean although only a few requests decode together.
# Source: fused_decoding_stage_attention_mha.cu of LLMServe/SwiftTransformer; the same notebook.
_DISTSERVE_TOKEN_S = 10.5e-6
_DISTSERVE_BATCH = 550_000  # prompt tokens of a step, beside whose results the KV must fit
_MAX_DECODE_REQUESTS = 128  # from which decode is bound by arithmetic, by the artefact

MakeServer = Callable[[Clock, Journal, "Limits"], Server]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the artefact sets for each dataset. Units: counts, tokens."""

    max_requests: int
    chunk_tokens: int


@dataclass(frozen=True)
class _TokenCosts(StepCosts):
    """Costs with a time of the software for each token of context. Units: seconds."""

    token_s: float = 0.0

    def step_s(self, batch: MicroBatch) -> float:
        return super().step_s(batch) + self.token_s * (batch.decode_context + batch.prefill_tokens)


@dataclass(frozen=True)
class _RoutedGroups(GroupStepCosts):
    """Costs of groups for each of whose instances the router calls more ranks."""

    def prefill_s(self, lengths: Sequence[int], degree: int, cached: Sequence[int] = ()) -> float:
        return super().prefill_s(lengths, degree, cached) + self._more_calls_s(degree)

    def decode_s(
        self, requests_by_master: Sequence[int], context_by_instance: Sequence[int]
    ) -> float:
        step_s = super().decode_s(requests_by_master, context_by_instance)
        return step_s + self._more_calls_s(len(context_by_instance))

    def _more_calls_s(self, degree: int) -> float:
        return (degree - 1) * self.costs.layout.tensor * _CALL_MS * 1e-3


def elastic(clock: Clock, journal: Journal, limits: Limits) -> Server:
    """Four elastic instances of two devices, under the policy that the worker runs."""
    layout = Layout(tensor=2)
    groups = _RoutedGroups(StepCosts(LWM, A800, layout, _routed(layout.tensor)))
    driver = ElasticDriver(
        ElasticPolicy(),
        groups.fitted(4, _MAX_DECODE_REQUESTS),
        [210_000] * 4,
        max_requests=limits.max_requests,
    )
    return ElasticServer(clock, driver, groups, number=0, journal=journal)


def vllm(clock: Clock, journal: Journal, _: Limits) -> Server:
    """vLLM 0.3: whole prompts first, almost one by one, since at most 256 tokens may be padding."""
    engine = WholePromptEngine(
        _TokenCosts(LWM, A800, Layout(tensor=8), _VLLM, token_s=_VLLM_TOKEN_S),
        capacity_tokens=900_000,
        step_tokens=600_000,
        max_requests=1024,
        padding_tokens=256,
    )
    return StaticServer(clock, engine, 0, journal)


def splitfuse(clock: Clock, journal: Journal, limits: Limits) -> Server:
    """LightLLM with SplitFuse, eight-way tensor-parallel."""
    layout = Layout(tensor=8)
    profile = replace(_routed(8), attention_share=_LEAST_ATTENTION)
    engine = ChunkApieceEngine(
        StepCosts(LWM, A800, layout, profile),
        capacity_tokens=900_000,
        step_tokens=limits.chunk_tokens,
        max_requests=limits.max_requests,
        pace=_PACE,
        tiling=Tiling(
            multiprocessors=_MULTIPROCESSORS,
            heads=LWM.shape.num_heads // layout.tensor,
            tile_tokens=_TILE_TOKENS,
        ),
    )
    return StaticServer(clock, engine, 0, journal)


def distserve(clock: Clock, journal: Journal, _: Limits) -> Server:
    """Four devices prefill under TP4, four decode under TP2 x PP2, with 0.82 of their memory."""
    profile = replace(_routed(4), attention_share=_OLD_ATTENTION, memory_utilisation=0.82)
    costs = StepCosts(LWM, A800, Layout(tensor=4), profile)
    prefill = Engine(
        costs,
        capacity_tokens=costs.kv_capacity_tokens(step_tokens=_DISTSERVE_BATCH, max_requests=128),
        step_tokens=_DISTSERVE_BATCH,
        max_requests=128,
        only_prefills=True,
        keeps_kv=True,
    )
    layout = Layout(tensor=2, pipeline=2)
    decode = LongestContextEngine(
        StepCosts(LWM, A800, layout, profile),
        capacity_tokens=450_000,
        step_tokens=2048,
        max_requests=128,
        token_s=_DISTSERVE_TOKEN_S / layout.pipeline,
    )
    return DisaggregatedServer(clock, [prefill], [decode], 0, journal)


def fixed(layout: Layout, degree: int, capacity_tokens: int) -> MakeServer:
    """LoongServe with ``--use_fixed_sp``: instances that always work together. Its router looks for
    prompts after every ten decode steps, and prefills at most 500,000 tokens of them at once."""

    def make(clock: Clock, journal: Journal, limits: Limits, number: int = 0) -> Server:
        engine = WholePromptEngine(
            ContextParallelCosts(LWM, A800, layout, _routed(layout.tensor * degree), degree=degree),
            capacity_tokens=capacity_tokens,
            step_tokens=500_000,
            max_requests=limits.max_requests,
            pace=_PACE,
        )
        return StaticServer(clock, engine, number, journal)

    return make


class _RoundRobin:
    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._next = 0

    def take(self, sequence: SimulatedSequence) -> None:
        self._servers[self._next].take(sequence)
        self._next = (self._next + 1) % len(self._servers)


def replicas(clock: Clock, journal: Journal, limits: Limits) -> Server:
    """Four servers of two devices each, which take turns."""
    make = partial(fixed(Layout(tensor=2), 1, 210_000), clock, journal, limits)
    return _RoundRobin([make() for _ in range(4)])


SYSTEMS: dict[str, MakeServer] = {
    "elastic": elastic,
    "vLLM 0.3": vllm,
    "SplitFuse": splitfuse,
    "DistServe": distserve,
    "TP8": fixed(Layout(tensor=8), 1, 900_000),
    "TP2 × SP4": fixed(Layout(tensor=2), 4, 840_000),
    "TP2, four replicas": replicas,
}
