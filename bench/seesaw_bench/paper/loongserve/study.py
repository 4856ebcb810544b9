"""The request rates that each system serves within the paper's limits.

A dataset's limit is on the mean over requests of latency divided by prompt and output tokens; in
the ablation nine in ten requests must get their first token in time, and then 50 ms a token. Runs
are the artefact's, and as there the rate at the limit is interpolated between two of them
(``get_intersection_point`` of its plots). So a rate may exceed what a system would bear for ever,
since a run ends before its queue has grown long, and it may be less than what it would bear, since
a limit that is missed by far pulls it towards the lower of the two. Short runs are repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from seesaw_bench.paper.loongserve import lengths
from seesaw_bench.paper.loongserve.artefact import RUNS, Run, run_at
from seesaw_bench.paper.loongserve.systems import A800, HARDWARE, LWM, SYSTEMS, Limits
from seesaw_core.errors import CapacityError
from seesaw_core.layouts import Layout
from seesaw_core.planner.costs import StepCosts
from seesaw_core.planner.group_costs import GroupStepCosts
from seesaw_core.planner.workloads import Request
from seesaw_sim.clock import Clock
from seesaw_sim.replicas import Journal
from seesaw_sim.sequences import Sequence

_MOST_REPEATED, _MOST_REPEATS = 3_600, 8  # requests in all repeats of a run; repeats
_GOOD_SHARE, _TTFT_S, _TTFT_TIMES, _TPOT_S = 0.9, 15.0, 25, 0.05
_LOWEST_INDEX = -20  # of rates, each half of the next, after which a system serves none

Strain = Callable[[list[Sequence]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One dataset. ``strain`` is above 1 beyond its limit; ``paper`` has the rates of each system,
    None where one cannot serve the dataset."""

    name: str
    draw: Callable[[int, Random], lengths.Lengths]
    limits: Limits
    strain: Strain
    paper: dict[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Requests per second at the limit, and (rate, strain) of every run; None: it cannot serve."""

    per_s: float | None
    runs: tuple[tuple[float, float], ...] = ()


def per_token(limit_ms: float) -> Strain:
    """Mean latency per token, as a share of its limit."""

    def strain(served: list[Sequence]) -> float:
        mean_s = sum(
            _latency_s(s) / (s.request.prompt_tokens + s.request.output_tokens) for s in served
        ) / len(served)
        return mean_s * 1e3 / limit_ms

    return strain


def missed(served: list[Sequence]) -> float:
    """Share of requests that were late, as a share of those that may be."""
    groups = GroupStepCosts(StepCosts(LWM, A800, Layout(tensor=2), HARDWARE))
    late = 0
    for s in served:
        assert s.first_token_s is not None
        own_s = groups.prefill_s([s.request.prompt_tokens], 4)
        ttft_s = s.first_token_s - s.arrival_s
        tpot_s = (_latency_s(s) - ttft_s) / max(1, s.request.output_tokens - 1)
        late += ttft_s > max(_TTFT_TIMES * own_s, _TTFT_S) or tpot_s > _TPOT_S
    return late / len(served) / (1 - _GOOD_SHARE)


def _latency_s(sequence: Sequence) -> float:
    assert sequence.finished_s is not None
    return sequence.finished_s - sequence.arrival_s


def _zipf(alpha: float, *per_s: float) -> Row:
    return Row(
        name=f"Zipf {alpha}",
        draw=lengths.zipf(alpha),
        limits=Limits(max_requests=1024, chunk_tokens=512),
        strain=missed,
        paper=dict(zip(("elastic", "TP8", "TP2 × SP4", "TP2, four replicas"), per_s, strict=True)),
    )


def _row(name: str, strain: Strain, limits: tuple[int, int], *per_s: float | None) -> Row:
    draws = {
        "ShareGPT": lengths.sharegpt,
        "L-Eval": lengths.l_eval,
        "LV-Eval": lengths.lv_eval,
        "Mixed": lengths.mixed,
    }
    return Row(
        name=name,
        draw=draws[name],
        limits=Limits(max_requests=limits[0], chunk_tokens=limits[1]),
        strain=strain,
        paper=dict(zip(("elastic", "vLLM 0.3", "SplitFuse", "DistServe"), per_s, strict=True)),
    )


DATASETS = (
    _row("ShareGPT", per_token(92), (1024, 256), 29.470, 6.351, 23.128, 10.366),
    _row("L-Eval", per_token(3.5), (256, 2048), 2.416, 1.144, 1.231, 0.415),
    _row("LV-Eval", per_token(2.5), (256, 16384), 0.201, 0.090, 0.082, None),
    _row("Mixed", per_token(70), (1024, 2048), 0.553, 0.208, 0.144, None),
)
ABLATION = (
    _zipf(1.0, 1.122, 0.405, 0.481, 0.360),
    _zipf(1.2, 2.925, 1.355, 1.478, 1.289),
    _zipf(1.4, 8.757, 5.723, 5.447, 5.000),
)
ROWS = {row.name: row for row in (*DATASETS, *ABLATION)}


def find_limit(row_name: str, system: str) -> Outcome:
    """Search the rate at which a system reaches a row's limit, beginning at the paper's."""
    row, runs = ROWS[row_name], RUNS[row_name, system]
    strains: dict[int, float] = {}

    def strain(index: int) -> float:
        if index not in strains:
            strains[index] = _mean_strain(row, system, run_at(runs, index))
        return strains[index]

    paper = row.paper[system] or 0.0
    low = max(0, sum(run.per_s <= paper for run in runs) - 1)
    try:
        while low > _LOWEST_INDEX and strain(low) > 1:
            low -= 1
        if strain(low) > 1:
            return Outcome(per_s=None)
        while strain(low + 1) <= 1:
            low += 1
    except CapacityError:
        return Outcome(per_s=None)
    begin, end = run_at(runs, low).per_s, run_at(runs, low + 1).per_s
    share = (1 - strain(low)) / (strain(low + 1) - strain(low))
    return Outcome(
        per_s=begin + (end - begin) * share,
        runs=tuple((run_at(runs, i).per_s, strains[i]) for i in sorted(strains)),
    )


def _mean_strain(row: Row, system: str, run: Run) -> float:
    repeats = max(1, min(_MOST_REPEATS, _MOST_REPEATED // run.count))
    return sum(row.strain(serve(row, system, run, seed)) for seed in range(repeats)) / repeats


def serve(row: Row, system: str, run: Run, seed: int = 0) -> list[Sequence]:
    """Serve a run's requests. Raises: CapacityError if the system cannot hold one of them."""
    random = Random(seed)
    drawn = row.draw(run.count, random)
    arrivals = []
    now = 0.0
    for _ in drawn:
        now += random.expovariate(1.0)
        arrivals.append(now)
    stretch = run.count / run.per_s / now  # the artefact scales a run's arrivals to its duration
    clock, journal = Clock(), Journal()
    server = SYSTEMS[system](clock, journal, row.limits)
    served = []
    for number, ((prompt, output), arrival) in enumerate(zip(drawn, arrivals, strict=True)):
        request = Request(arrival_s=arrival * stretch, prompt_tokens=prompt, output_tokens=output)
        sequence = Sequence(number, request)
        served.append(sequence)
        clock.at(sequence.arrival_s, partial(server.take, sequence))
    clock.run()
    return served
