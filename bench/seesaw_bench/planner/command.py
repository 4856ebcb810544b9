"""``seesaw bench planner``: compare plans with simulations.

The command makes 198 plans (two models, three accelerators, 4 and 8 of them, nine workloads, two
flush timeouts) and simulates the choices that each plan ranks highest. It prints the throughput of
the plans' choices as a share of the best, and the ratio of predicted to simulated throughput. It
takes one to two minutes.
"""

import itertools
import sys
from collections.abc import Iterator
from statistics import mean, quantiles

from seesaw_bench.paper.cells import MODELS
from seesaw_bench.planner.studies import Verdict, judge_plan
from seesaw_cli.commandline import worker_processes
from seesaw_cli.planner_flags.flags import table
from seesaw_core.errors import CapacityError
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.choose import PlanRequest
from seesaw_core.planner.memory import EngineLimits
from seesaw_core.planner.workloads import summarise
from seesaw_flags.parser import CommandParser
from seesaw_sim.draws import Lengths, draw_requests

Cell = tuple[float, str, str, int, int, int]

_CELLS: list[Cell] = list(
    itertools.product(
        (10.0, 1000.0),
        ("15B", "70B"),
        ("L4", "A100-PCIe-40", "H100-SXM"),
        (4, 8),
        (300, 1000, 3000),
        (30, 150, 600),
    )
)
_REQUESTS = 1500  # near the default of ``seesaw plan``, and quick to simulate
_CLOSE = 0.97  # what ``MIN_GAIN_TO_RESHARD`` takes for equal
_SHOWN = 6

_HEAD = (
    "flush timeout",
    "plans",
    "of the best, mean",
    "worst",
    "within 3 %",
    "predicted/simulated",
)
_WORST_HEAD = ("model", "devices", "prompt", "output", "flush s", "chosen", "best", "of the best")


def run(arguments: list[str]) -> int:
    """Judge all plans and print the results. Returns 0."""
    parser().parse_args(arguments)
    with worker_processes() as pool:
        jobs = [pool.apply_async(_judge, (cell,)) for cell in _CELLS]
        verdicts = {}
        for number, (cell, job) in enumerate(zip(_CELLS, jobs, strict=True), 1):
            verdict = job.get()
            if verdict is not None:
                verdicts[cell] = verdict
            if number % 18 == 0:
                print(f"seesaw bench: {number} of {len(_CELLS)}", file=sys.stderr, flush=True)
    print(table(_HEAD, list(_rows(verdicts))))
    print("\nfurthest from the best:")
    furthest = sorted(verdicts.items(), key=lambda item: item[1].share)[:_SHOWN]
    print(table(_WORST_HEAD, [_row(cell, verdict) for cell, verdict in furthest]))
    return 0


def parser() -> CommandParser:
    """The command's flags."""
    return CommandParser(prog="seesaw bench planner", description=__doc__)


def _judge(cell: Cell) -> Verdict | None:
    flush_s, model, device, count, prompt, output = cell
    requests = draw_requests(
        _REQUESTS,
        prompts=Lengths.around(prompt, spread=0.5),
        outputs=Lengths.around(output, spread=0.5),
        longest=16_000,
    )
    question = PlanRequest(
        model=MODELS[model],
        device=builtin_catalogue().accelerator(device),
        num_devices=count,
        workload=summarise(requests),
        limits=EngineLimits(flush_timeout_s=flush_s),
        is_calibrated=True,
    )
    try:
        return judge_plan(question, requests)
    except CapacityError:  # 70B on four L4
        return None


def _rows(verdicts: dict[Cell, Verdict]) -> Iterator[tuple[str, ...]]:
    for flush_s in sorted({cell[0] for cell in verdicts}):
        own = [v for cell, v in verdicts.items() if cell[0] == flush_s]
        shares = [v.share for v in own]
        tenths = quantiles([v.predicted_ratio for v in own], n=10)
        yield (
            f"{flush_s:,.0f} s",
            f"{len(own)}",
            f"{100 * mean(shares):.1f} %",
            f"{100 * min(shares):.0f} %",
            f"{sum(s >= _CLOSE for s in shares)}",
            f"{tenths[0]:.2f} to {tenths[-1]:.2f}",
        )


def _row(cell: Cell, verdict: Verdict) -> tuple[str, ...]:
    flush_s, model, device, count, prompt, output = cell
    return (
        model,
        f"{count} x {device}",
        f"{prompt:,}",
        f"{output}",
        f"{flush_s:,.0f}",
        str(verdict.chosen),
        str(verdict.best),
        f"{100 * verdict.share:.0f} %",
    )
