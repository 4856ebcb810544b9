"""``seesaw simulate``: serve a workload on a virtual clock, before anyone rents a GPU.

The simulator runs the policies of the router and the worker unchanged, with their queues, waves,
KV buffer and transitions. The cost model gives the time of each step. The command needs no GPU.

  seesaw simulate ./Llama-2-70b --accelerator L4 --devices 8 --compare
  seesaw simulate ./Llama-2-70b --accelerator L4 --prefill P8 --decode T4P2 --arrivals-per-s 0.3

Without --prefill and --decode the command simulates the planner's choice. Progress goes to standard
error, and the table, or JSON with --json, to standard output.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from typing import Any

from seesaw_cli.planner_flags.flags import PlannerArgs, add_flags, read_flags, table
from seesaw_cli.simulate.systems import scenario_of, systems
from seesaw_core.errors import InputError
from seesaw_core.planner.workloads import Request
from seesaw_core.resharding.policy import Reshard
from seesaw_core.routing.waves import WavePolicy
from seesaw_flags.files import OutputFolder, make_folder
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import POSITIVE, Whole
from seesaw_sim.draws import arriving
from seesaw_sim.reports import Report
from seesaw_sim.simulate import Scenario, simulate

_RATIOS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # from summaries to long answers


def run(arguments: list[str]) -> int:
    """Simulate, print the reports and draw pictures. Returns 0."""
    options = _parse(arguments)
    args = read_flags(options)
    if options.output is not None:
        make_folder(options.output, "--output")
    for note in args.notes:
        _say(f"note: {note}")
    requests = args.requests
    if options.arrivals_per_s is not None:
        requests = arriving(requests, per_s=options.arrivals_per_s, seed=options.seed)
    elif not args.is_trace and options.replicas > 1 and options.concurrency is None:
        _say(f"all {len(requests):,} requests arrive at once; --arrivals-per-s spreads them")
    reports: dict[str, Report] = {}
    scenarios: dict[str, Scenario] = {}
    for system in systems(args, options, say=_say):
        scenarios.setdefault(str(system), scenario_of(args, options, system))
    for name, scenario in scenarios.items():
        if scenario.num_devices != args.num_devices:
            _say(f"{name} has {scenario.num_devices} devices, not --devices={args.num_devices}")
        reports[name] = _simulate(name, scenario, requests, options.concurrency)
    swept = _sweep(args, scenarios) if options.sweep else {}
    pictures = []
    if options.output is not None:
        from seesaw_cli.simulate.pictures import draw_all

        pictures = draw_all(reports, swept, options.output)
    if options.json:
        systems_json = {name: as_json(report) for name, report in reports.items()}
        print(json.dumps({"systems": systems_json, "sweep": swept, "pictures": pictures}, indent=2))
    else:
        print(_text(reports, scenarios))
        for name, points in swept.items():
            at = ", ".join(f"{100 * ratio:g} %: {tokens:,.0f}" for ratio, tokens in points)
            print(f"tokens/s of {name} by output/prompt: {at}")
        for picture in pictures:
            _say(f"drawn: {picture}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    command = CommandParser(prog="seesaw simulate", description=__doc__)
    add_flags(command)
    system = command.add_argument_group("system")
    system.add_argument(
        "--prefill", metavar="LAYOUT", help="layout such as P8 (default: the planner's)"
    )
    system.add_argument(
        "--decode", metavar="LAYOUT", help="layout such as T4P2 (default: the planner's)"
    )
    system.add_argument(
        "--replicas",
        type=Whole(most=10_000),
        default=1,
        metavar="N",
        help="workers behind a router (default: 1)",
    )
    system.add_argument(
        "--disaggregate",
        metavar="PREFILL:DECODE",
        help="also simulate separate engines for each phase, such as D2T2:T4",
    )
    system.add_argument(
        "--elastic",
        metavar="COUNT:LAYOUT",
        help="also simulate elastic sequence parallelism over instances, such as 4:T2",
    )
    system.add_argument(
        "--compare",
        action="store_true",
        help="also simulate the best static layout, or the best pair if the first system is static",
    )
    system.add_argument(
        "--reshard",
        choices=[r.value for r in Reshard],
        default=Reshard.AUTO.value,
        help="as for the worker (default: auto)",
    )
    system.add_argument(
        "--max-wait-s",
        type=POSITIVE,
        default=WavePolicy().max_wait_s,
        metavar="S",
        help="longest wait for a wave, as for the router (default: %(default)g)",
    )
    system.add_argument(
        "--no-stagger", action="store_true", help="do not let replicas take turns with their waves"
    )
    load = command.add_argument_group("load")
    load.add_argument(
        "--arrivals-per-s",
        type=POSITIVE,
        metavar="R",
        help="random arrivals at this mean rate (default: all at once, or the trace's times)",
    )
    load.add_argument(
        "--concurrency",
        type=Whole(),
        metavar="N",
        help="keep this many requests in the system; each starts when another has ended",
    )
    load.add_argument(
        "--sweep",
        action="store_true",
        help="also simulate outputs of 2 %% to 200 %% of the prompts' lengths",
    )
    out = command.add_argument_group("output")
    out.add_argument(
        "--output", type=OutputFolder(), metavar="FOLDER", help="draw pictures into this folder"
    )
    out.add_argument("--json", action="store_true", help="print the reports as JSON")
    return command


def _parse(arguments: list[str]) -> argparse.Namespace:
    options = parser().parse_args(arguments)
    if options.concurrency is not None and options.arrivals_per_s is not None:
        raise InputError(
            "--concurrency and --arrivals-per-s both set when requests arrive; give one of them"
        )
    return options


def _simulate(
    name: str, scenario: Scenario, requests: list[Request], concurrency: int | None = None
) -> Report:
    from rich.console import Console
    from rich.progress import Progress

    began = time.monotonic()
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=len(requests))
        report = simulate(
            scenario,
            requests,
            lambda done, _: bar.update(task, completed=done),
            concurrency=concurrency,
        )
    _say(f"{name}: {report.duration_s:,.0f} s simulated in {time.monotonic() - began:.1f} s")
    return report


def _sweep(
    args: PlannerArgs, scenarios: dict[str, Scenario]
) -> dict[str, list[tuple[float, float]]]:
    """Simulate each system at every ratio of output to prompt tokens. Returns tokens per second."""
    most = args.model.max_tokens / (1 + _RATIOS[-1])
    fitting = [r for r in args.requests if r.prompt_tokens <= most - 1]
    if not fitting:
        raise InputError(
            f"--sweep needs prompts of at most {most:,.0f} tokens, so that outputs of "
            f"{100 * _RATIOS[-1]:.0f} % fit the model's {args.model.max_tokens:,}; there are none"
        )
    if len(fitting) < len(args.requests):
        _say(f"note: the sweep uses the {len(fitting):,} prompts of at most {most:,.0f} tokens")
    swept: dict[str, list[tuple[float, float]]] = {}
    for ratio in _RATIOS:
        requests = [
            replace(r, output_tokens=max(1, round(r.prompt_tokens * ratio))) for r in fitting
        ]
        for name, scenario in scenarios.items():
            report = _simulate(f"{name}, outputs {100 * ratio:g} %", scenario, requests)
            swept.setdefault(name, []).append((ratio, report.total_tokens_per_s))
    return swept


def as_json(report: Report) -> dict[str, Any]:
    """Return a report for JSON, without the fields that only pictures need."""
    values = asdict(report)
    del values["stretches"], values["buffer"]
    return values


def _text(reports: dict[str, Report], scenarios: dict[str, Scenario]) -> str:
    rows = [_row(name, scenarios[name].step_tokens, r) for name, r in reports.items()]
    lines = [table(("system", *_COLUMNS), rows)]
    name, first = next(iter(reports.items()))
    reshard = scenarios[name].policy.reshard
    if first.transitions:
        share = first.peak_stored_tokens / max(1, first.buffer_tokens)
        lines.append(
            f"{first.transitions} transitions; KV filled at most {100 * share:.0f} % of the "
            f"buffer's {first.buffer_tokens:,} tokens, and at most "
            f"{100 * first.peak_pool_share:.0f} % of the pool"
        )
    elif reshard is Reshard.AUTO and "decode" in first.seconds_by_phase:
        lines.append(
            "no transitions: with --reshard=auto no wave would have paid off, so prompts were "
            "prefilled in place, which counts as decode; --reshard=always simulates the waves"
        )
    return "\n".join(lines)


_COLUMNS = (
    "step",
    "requests/s",
    "tokens/s",
    "TTFT p50 s",
    "p99",
    "TPOT p50 ms",
    "p99",
    "latency p50 s",
    "prefill",
    "decode",
    "switch",
    "preempted",
)


def _row(name: str, step_tokens: int, report: Report) -> tuple[str, ...]:
    seconds = report.seconds_by_phase
    total = sum(seconds.values()) or 1.0
    shares = [seconds.get(what, 0.0) / total for what in ("prefill", "decode", "transition")]
    if "mixed" in seconds:
        phases = ("mixed", "mixed", "")
    else:
        phases = tuple(f"{100 * share:.1f} %" for share in shares)  # type: ignore[assignment]
    return (
        name,
        f"{step_tokens}",
        f"{report.requests_per_s:.2f}",
        f"{report.total_tokens_per_s:,.0f}",
        f"{report.ttft.p50:,.1f}",
        f"{report.ttft.p99:,.1f}",
        f"{1e3 * report.tpot.p50:,.0f}",
        f"{1e3 * report.tpot.p99:,.0f}",
        f"{report.latency.p50:,.1f}",
        *phases,
        f"{report.preemptions:,}",
    )


def _say(line: str) -> None:
    print(f"seesaw simulate: {line}", file=sys.stderr)
