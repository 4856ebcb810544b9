"""``seesaw paper``: run two papers' evaluations on the simulator, beside the papers' results.

Seesaw's study simulates twelve cells (A10 and L4, three models, two workloads), the A100 table, the
sweep of output lengths and the ablations, all with one profile. It also shows how far the results
depend on the lengths of requests, which the paper does not print. A layout within 2 % of the best
one is marked as a tie. LoongServe's study searches the request rate that elastic instances, vLLM
0.3, SplitFuse and DistServe serve within the paper's latency limits, and its ablation, all with one
set of constants. Each takes two to three minutes on two cores, and needs no GPU and no network.
Tables go to standard output as Markdown, and with the pictures to --output. Exit codes: 0 all
targets are met, 1 a target is missed.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from seesaw_bench.paper.cells import (
    CELLS,
    PAPER_GEOMEAN,
    PROFILE,
    TIE,
    CellResult,
    LengthSampling,
    geomean,
    run_cell,
)
from seesaw_bench.paper.loongserve.run import run_loongserve
from seesaw_bench.paper.studies import (
    A100_PAPER,
    SWEEP_P8,
    SWEEP_PAIR,
    SWEEP_RATIOS,
    SWEEP_STATIC,
    A100Result,
    Ablation,
    run_a100,
    run_ablations,
    run_sweep,
)
from seesaw_cli.commandline import worker_processes
from seesaw_cli.planner_flags.flags import read_profile_file
from seesaw_core.layouts import LayoutPair
from seesaw_core.planner.profiles import Profile
from seesaw_flags.files import InputFile, OutputFolder, make_folder
from seesaw_flags.parser import CommandParser

# What the fit of ``PROFILE`` reaches; a change that loses it is noticed.
_LEAST_RIGHT = 9
_GEOMEAN_TOLERANCE = 0.10
_TIE = 0.05  # without output both are pipelines of eight; ours also copies KV


def run(arguments: list[str]) -> int:
    """Run the studies, print the tables and draw. Returns 0 if the targets are met, else 1."""
    options = parser().parse_args(arguments)
    profile = read_profile_file(options.profile) if options.profile else PROFILE
    make_folder(options.output, "--output")
    good = True
    if options.only != "loongserve":
        good = _run_seesaw(profile, options.output)
    if options.only is None:
        print()
    if options.only != "seesaw":
        good = run_loongserve(options.output, _say) and good
    return 0 if good else 1


def _run_seesaw(profile: Profile, output: Path) -> bool:
    with worker_processes() as pool:
        jobs = [pool.apply_async(run_cell, (cell, profile)) for cell in CELLS]
        other_jobs = {
            sampling: [pool.apply_async(run_cell, (cell, profile, sampling)) for cell in CELLS]
            for sampling in LengthSampling
            if sampling is not LengthSampling.MAIN
        }
        a100_jobs = [
            pool.apply_async(run_a100, (place, work, profile)) for place, work in A100_PAPER
        ]
        sweep_jobs = [pool.apply_async(run_sweep, (ratio, profile)) for ratio in SWEEP_RATIOS]
        ablation_job = pool.apply_async(run_ablations, (profile,))
        cells = [_shown(job.get(), number) for number, job in enumerate(jobs, 1)]
        by_sampling: dict[LengthSampling, list[CellResult]] = {LengthSampling.MAIN: cells}
        for sampling, sampling_jobs in other_jobs.items():
            by_sampling[sampling] = [job.get() for job in sampling_jobs]
        a100 = [job.get() for job in a100_jobs]
        sweep = dict(zip(SWEEP_RATIOS, (job.get() for job in sweep_jobs), strict=True))
        ablations = ablation_job.get()
    checks = _checks(cells, a100, sweep)
    text = "\n\n".join(
        (
            _cells_table(cells),
            _checks_table(checks),
            _a100_table(a100),
            _sweep_table(sweep),
            _ablations_table(ablations),
            _sensitivity_table(by_sampling),
        )
    )
    print(text)
    (output / "paper.md").write_text(text + "\n")
    from seesaw_bench.paper.pictures import draw_cells, draw_sweep

    draw_cells(cells, output / "cells.png")
    draw_sweep(sweep, output / "output-ratio.png")
    _say(f"written: {output}/paper.md, cells.png and output-ratio.png")
    return all(good for _, _, good in checks)


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    command = CommandParser(prog="seesaw paper", description=__doc__)
    command.add_argument(
        "--output",
        type=OutputFolder(),
        default=Path("paper-output"),
        metavar="FOLDER",
        help="where to write tables and pictures (default: %(default)s)",
    )
    command.add_argument(
        "--profile",
        type=InputFile(),
        metavar="FILE",
        help="constants to use for Seesaw's cells instead of those fitted to the paper",
    )
    command.add_argument(
        "--only",
        choices=("seesaw", "loongserve"),
        help="run one of the two studies (default: both)",
    )
    return command


def _shown(result: CellResult, number: int) -> CellResult:
    cell = result.cell
    _say(f"cell {number}/{len(CELLS)}: {cell.device}, {cell.work}, {cell.model}")
    return result


Checks = list[tuple[str, str, bool]]


def _checks(
    cells: list[CellResult], a100: list[A100Result], sweep: dict[float, dict[LayoutPair, float]]
) -> Checks:
    """Return each target with the result, and whether it is met."""
    checks: Checks = []
    for name, wanted in PAPER_GEOMEAN.items():
        gain = geomean([c.gain for c in cells if c.cell.device == name])
        good = abs(gain / wanted - 1) <= _GEOMEAN_TOLERANCE
        checks.append((f"{name} geomean within 10 % of {wanted}×", f"{gain:.2f}×", good))
    for what, right in (
        ("static layout", _right(cells, pair=False)),
        ("pair", _right(cells, pair=True)),
    ):
        result_text = f"{right} of {len(cells)}"
        checks.append(
            (f"best {what} as in the paper in 9 of 12", result_text, right >= _LEAST_RIGHT)
        )
    by_place = {(r.device, r.work): r for r in a100}
    for work in ("arXiv", "ShareGPT"):
        pcie, nvlink = by_place["A100 PCIe", work], by_place["A100 NVLink", work]
        order = pcie.static_per_s < pcie.pair_per_s < max(nvlink.static_per_s, nvlink.pair_per_s)
        gains = [r.pair_per_s / r.static_per_s for r in (pcie, nvlink)]
        checks.append(
            (
                f"A100, {work}: re-sharding gains over PCIe, and more than over NVLink",
                f"{gains[0]:.2f}× and {gains[1]:.2f}×",
                order and gains[0] > gains[1],
            )
        )
    tie = sweep[0.0][SWEEP_PAIR] / sweep[0.0][SWEEP_P8]
    checks.append(("no output: a tie with P8", f"{tie:.2f}×", abs(tie - 1) <= _TIE))
    others = [r for r in sweep if r]
    ahead = [r for r in others if _lead(sweep[r]) > 1]
    checks.append(
        (
            "ahead of every static layout at every other ratio of outputs",
            f"{len(ahead)} of {len(others)}",
            ahead == others,
        )
    )
    return checks


def _lead(results: dict[LayoutPair, float]) -> float:
    return results[SWEEP_PAIR] / max(results[name] for name in SWEEP_STATIC if name in results)


def _cells_table(cells: list[CellResult]) -> str:
    rows = []
    for c in cells:
        cell = c.cell
        rows.append(
            (
                f"{cell.device} ×{cell.num_devices}",
                cell.work,
                cell.model,
                f"{cell.static} {_mark(c.static.standing(cell.static))}",
                f"{c.static.best} ({c.static.best_per_s:.2f}/s)",
                f"{cell.pair} {_mark(c.pair.standing(cell.pair))}",
                f"{c.pair.best} ({c.pair.best_per_s:.2f}/s)",
                f"{c.gain:.2f}×",
            )
        )
    head = ("GPUs", "work", "model", "paper: static", "ours", "paper: pair", "ours", "gain")
    return "**Cells**\n\n" + _markdown(head, rows)


def _mark(standing: float) -> str:
    """Return whether the paper's choice is also ours, ties with ours, or how far it is behind."""
    if standing >= 1:
        return "✓"
    if standing >= 1 - TIE:
        return f"≈ ({100 * (standing - 1):.1f} %)"
    return f"({100 * (standing - 1):.0f} %)" if standing else "(does not fit)"


def _checks_table(checks: Checks) -> str:
    rows = [(target, result, "yes" if good else "**no**") for target, result, good in checks]
    return "**Targets**\n\n" + _markdown(("target", "found", "met"), rows)


def _a100_table(results: list[A100Result]) -> str:
    base = {r.work: r.static_per_s for r in results if r.device == "A100 NVLink"}
    rows = []
    for r in results:
        static, pair = A100_PAPER[r.device, r.work]
        rows.append(
            (
                r.device,
                r.work,
                f"{static:.2f} / {pair:.2f}",
                f"{r.static_per_s / base[r.work]:.2f} ({r.static})",
                f"{r.pair_per_s / base[r.work]:.2f} ({r.pair})",
            )
        )
    head = ("8 × A100-40G, 70B", "work", "paper: vLLM / Seesaw", "ours: static", "ours: pair")
    return "**A100, relative to the best static layout over NVLink**\n\n" + _markdown(head, rows)


def _sweep_table(sweep: dict[float, dict[LayoutPair, float]]) -> str:
    pairs = (*SWEEP_STATIC, SWEEP_PAIR)
    rows = [
        (f"{ratio:g}", *(f"{results[p]:.3f}" if p in results else "–" for p in pairs))
        for ratio, results in sweep.items()
    ]
    title = "**Requests/s by output/prompt tokens: 70B on 8 × A10, prompts of 3,000**\n\n"
    return title + _markdown(("output/prompt", *map(str, pairs)), rows)


def _ablations_table(results: list[Ablation]) -> str:
    rows = [
        (
            a.name,
            f"{a.requests_per_s:.3f}",
            f"{a.transitions}",
            f"{100 * a.transition_share:.1f} %",
        )
        for a in results
    ]
    title = f"**Ablations: 70B on 8 × A10, arXiv, {SWEEP_PAIR}**\n\n"
    return title + _markdown(("variant", "requests/s", "transitions", "time in them"), rows)


def _sensitivity_table(results: dict[LengthSampling, list[CellResult]]) -> str:
    rows = []
    for sampling, cells in results.items():
        gains = [
            geomean([c.gain for c in cells if c.cell.device == name]) for name in PAPER_GEOMEAN
        ]
        rows.append(
            (
                sampling.value,
                *(f"{gain:.2f}×" for gain in gains),
                f"{_right(cells, pair=False)} of {len(cells)}",
                f"{_right(cells, pair=True)} of {len(cells)}",
            )
        )
    head = ("lengths", *(f"{n} geomean" for n in PAPER_GEOMEAN), "static right", "pair right")
    return "**How much hangs on the lengths**\n\n" + _markdown(head, rows)


def _right(cells: list[CellResult], *, pair: bool) -> int:
    """Count the cells in which the paper's choice is also ours or ties with ours."""
    standings = [
        c.pair.standing(c.cell.pair) if pair else c.static.standing(c.cell.static) for c in cells
    ]
    return sum(s >= 1 - TIE for s in standings)


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _say(line: str) -> None:
    print(f"seesaw paper: {line}", file=sys.stderr, flush=True)
