"""Runs LoongServe's study over all cores, prints its tables and draws."""

from collections.abc import Callable
from pathlib import Path

from seesaw_bench.paper.loongserve.report import Outcomes, checks, tables
from seesaw_bench.paper.loongserve.study import ROWS, find_limit
from seesaw_cli.commandline import worker_processes


def run_loongserve(output: Path, say: Callable[[str], None]) -> bool:
    """Return whether all targets are met. ``say`` gets a line for each rate that is found."""
    jobs = [(row.name, system) for row in ROWS.values() for system in row.paper]
    jobs.sort(key=lambda job: job[1] != "elastic")  # the longest searches first
    outcomes: Outcomes = {}
    with worker_processes() as pool:
        results = [pool.apply_async(find_limit, job) for job in jobs]
        for number, (job, result) in enumerate(zip(jobs, results, strict=True), 1):
            found = outcomes[job] = result.get()
            rate = "none" if found.per_s is None else f"{found.per_s:.3f} requests/s"
            say(f"loongserve {number}/{len(jobs)}: {job[0]}, {job[1]}: {rate}")
    text = tables(outcomes)
    print(text)
    (output / "loongserve.md").write_text(text + "\n")
    from seesaw_bench.paper.loongserve.pictures import draw_rates

    draw_rates(outcomes, output / "loongserve.png")
    say(f"written: {output}/loongserve.md and loongserve.png")
    return all(good for _, _, good in checks(outcomes))
