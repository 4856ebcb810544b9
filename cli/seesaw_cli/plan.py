"""``seesaw plan``: choose the layouts to serve a model under, and predict the gain.

Tries every data-, tensor- and pipeline-parallel layout of the devices, for prefill and for decode,
and predicts the throughput of each from the model's config.json and the accelerator's data sheet.
The command needs no GPU and no network, and takes about a second. With --arrivals-per-s, or with a
trace whose requests arrive over time, it also serves up to 500 of them on the simulator and says
whether elastic instances answer sooner than the layouts of the plan; this takes some seconds.

  seesaw plan ./Llama-2-70b --accelerator L4 --devices 8 --prompt-tokens 3000 --output-tokens 200
"""

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from seesaw_cli.arrivals import Served, as_lines, compare
from seesaw_cli.planner_flags.flags import PlannerArgs, add_flags, read_flags, table
from seesaw_core.errors import InputError
from seesaw_core.planner.choose import Plan, make_plan
from seesaw_core.planner.estimates import Estimate
from seesaw_core.planner.models import Model
from seesaw_core.planner.workloads import summarise
from seesaw_core.units import GIB, MIB
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import POSITIVE, Whole

_SHOWN = 5  # rows of a table without --all


def run(arguments: list[str]) -> int:
    """Plan and print the plan. Returns 0."""
    options = parser().parse_args(arguments)
    args = read_flags(options)
    if options.ttft_target_s is not None and options.concurrency is None:
        raise InputError(
            f"--ttft-target-s={options.ttft_target_s} needs --concurrency: without a bound on the "
            "requests at a time, the wait for the first token has no bound either"
        )
    tpot_s = None if options.tpot_target_ms is None else options.tpot_target_ms / 1e3
    workload = summarise(
        args.requests,
        concurrency=options.concurrency,
        ttft_target_s=options.ttft_target_s,
        tpot_target_s=tpot_s,
    )
    request = args.plan_request(workload)
    plan = make_plan(request)
    served: list[Served] = []
    if options.arrivals_per_s is not None or (args.is_trace and args.requests[-1].arrival_s > 0):
        served = compare(args, plan, options.arrivals_per_s)
        if not served:
            print("seesaw plan: none of the systems can hold the longest request", file=sys.stderr)
    if options.json:
        context: dict[str, Any] = {
            "question": asdict(request) | {"model": model_as_json(request.model)},
            "command": _command(args, plan.best, options),
            "notes": args.notes,
        }
        if served:
            context["served"] = [_served_json(args, s, options) for s in served]
        print(json.dumps(as_json(plan) | context, indent=2))
    else:
        print(_text(args, plan, shown=None if options.all else _SHOWN))
        print(f"\nTo serve it:\n  {_command(args, plan.best, options)}")
        if served:
            print(_served_text(args, served, options))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    command = CommandParser(prog="seesaw plan", description=__doc__)
    add_flags(command)
    targets = command.add_argument_group("targets")
    targets.add_argument(
        "--concurrency",
        type=Whole(),
        metavar="N",
        help="most requests at a time (default: no bound)",
    )
    targets.add_argument(
        "--ttft-target-s", type=POSITIVE, metavar="S", help="mean time to the first token"
    )
    targets.add_argument(
        "--tpot-target-ms", type=POSITIVE, metavar="MS", help="mean time of each further token"
    )
    targets.add_argument(
        "--arrivals-per-s",
        type=POSITIVE,
        metavar="RATE",
        help="compare the mean latency of static, re-sharding and elastic workers at this rate of "
        "random arrivals (default: at a trace's own times, else not at all)",
    )
    command.add_argument(
        "--all", action="store_true", help="show every layout, not only the best five"
    )
    command.add_argument("--json", action="store_true", help="print the plan as JSON")
    return command


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan for JSON, with layouts as strings."""

    close = set(plan.close)

    def estimate(choice: Estimate) -> dict[str, Any]:
        layouts = {"prefill": str(choice.prefill), "decode": str(choice.decode)}
        return asdict(choice) | layouts | {"close": choice.pair in close}

    return {
        "best": estimate(plan.best),
        "reshards": not plan.best.is_static,
        "gain": plan.gain,
        "gain_band": None if plan.gain_band is None else asdict(plan.gain_band),
        "reason": plan.reason,
        "static": [estimate(e) for e in plan.static],
        "pairs": [estimate(e) for e in plan.pairs],
        "rejected": [{"layout": str(r.pair), "reason": r.reason} for r in plan.rejected],
    }


def model_as_json(model: Model) -> dict[str, Any]:
    """Return what is counted of a model for JSON, with its layers by kind."""
    layers = [
        {
            "count": number,
            "mixing": None if kind.mixer is None else kind.mixer.mixing,
            "params": kind.params,
            "weight_bytes": kind.weight_bytes(),
            "state_bytes": kind.state_bytes(),
        }
        for kind, number in model.counts
    ]
    return {
        "name": model.name,
        "shape": asdict(model.shape),
        "hidden": model.hidden,
        "vocab": model.vocab,
        "params": model.num_params,
        "weight_bytes": model.total_bytes,
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "state_bytes": model.state_bytes,
        "arithmetic": model.arithmetic,
        "max_tokens": model.max_tokens,
        "cannot_reshard": model.static_only,
        "layers": layers,
    }


def _text(args: PlannerArgs, plan: Plan, shown: int | None) -> str:
    model, device = args.model, args.device
    prompt = sum(r.prompt_tokens for r in args.requests) / len(args.requests)
    output = sum(r.output_tokens for r in args.requests) / len(args.requests)
    size = (
        f"{model.name}: {_count(model.num_params)} parameters, "
        f"{model.total_bytes / GIB:.1f} GiB of weights, "
        f"{model.kv_bytes_per_token / 1024:,.0f} KiB of KV a token"
    )
    if model.state_bytes:
        size += f", {model.state_bytes / MIB:,.0f} MiB of state a request"
    place = (
        f"{args.num_devices} x {device.name}: {device.memory_bytes / GIB:.1f} GiB each, "
        f"joined by {device.peer_link.name}; profile: {args.profile.name}"
    )
    work = (
        f"{len(args.requests):,} requests of {prompt:,.0f} prompt and {output:,.0f} output tokens"
    )
    best = (
        f"Best: {plan.best}, {plan.best.total_tokens_per_s:,.0f} tokens/s "
        f"({plan.best.output_tokens_per_s:,.0f} of them output){_between(plan.best)}"
    )
    notes = [f"note: {note}" for note in args.notes]
    lines = [size, place, work, *notes, "", best, f"  {plan.reason}", f"  {_memory(plan.best)}"]
    for title, estimates in (("re-sharding", plan.pairs), ("static", plan.static)):
        if not estimates:
            cannot = model.static_only if estimates is plan.pairs else None
            lines += ["", f"{title}: {cannot}" if cannot else f"{title}: none fits"]
            continue
        rows = [_row(e, is_close=e.pair in plan.close) for e in estimates[:shown]]
        lines += ["", table((title, *_COLUMNS), rows)]
        if shown is not None and len(estimates) > shown:
            lines.append(f"… and {len(estimates) - shown} more (--all)")
    if plan.close:
        lines += ["", f"≈ too close to call against {plan.best}"]
    if plan.rejected:
        rejected = plan.rejected if shown is None else plan.rejected[:shown]
        lines += ["", "rejected:", *(f"  {r.pair}: {r.reason}" for r in rejected)]
        if len(rejected) < len(plan.rejected):
            lines.append(f"  … and {len(plan.rejected) - len(rejected)} more (--all)")
    return "\n".join(lines)


def _served_text(args: PlannerArgs, served: list[Served], options: argparse.Namespace) -> str:
    best = served[0]
    rows = as_lines(served)
    head = ("as they arrive", "latency s", "TTFT s", "requests/s")
    answer = f"Least mean latency as the requests arrive: {best.name}"
    return "\n".join(
        ("", table(head, rows), "", answer, f"  {_served_command(args, best, options)}")
    )


def _served_json(
    args: PlannerArgs, served: Served, options: argparse.Namespace
) -> dict[str, float | str]:
    return {
        "system": served.name,
        "latency_s": served.latency_s,
        "ttft_s": served.ttft_s,
        "requests_per_s": served.requests_per_s,
        "command": _served_command(args, served, options),
    }


def _served_command(args: PlannerArgs, served: Served, options: argparse.Namespace) -> str:
    if served.choice is not None:
        return _command(args, served.choice, options)
    flags = [
        f"--elastic-instances {served.instances}",
        f"--tensor-parallel-size {served.tensor}",
        *_dtype_flags(options),
    ]
    return f"seesaw worker {options.model} {' '.join(flags)}"


_COLUMNS = ("requests/s", "tokens/s", "ms/token", "running", "step", "prefill", "decode", "switch")


def _row(estimate: Estimate, *, is_close: bool) -> tuple[str, ...]:
    band = estimate.band
    per_s = f"{estimate.requests_per_s:.2f}"
    if band is not None:
        low, high = (factor * estimate.requests_per_s for factor in (band.low, band.high))
        per_s = f"{per_s} ({low:.2f}-{high:.2f})"
    return (
        f"{estimate} ≈" if is_close else str(estimate),
        per_s,
        f"{estimate.total_tokens_per_s:,.0f}",
        f"{1e3 * estimate.tpot_s:,.0f}",
        f"{estimate.num_running:,.0f}",
        f"{estimate.step_tokens}",
        *(f"{100 * share:.0f} %" for share in estimate.shares),
    )


def _between(estimate: Estimate) -> str:
    """Return the bounds of an estimate's tokens per second, after a comma."""
    band = estimate.band
    if band is None:
        return ""
    low, high = (factor * estimate.total_tokens_per_s for factor in (band.low, band.high))
    return f", between {low:,.0f} and {high:,.0f}"


def _memory(estimate: Estimate) -> str:
    memory = estimate.memory
    buffer = f", {memory.buffer_tokens:,} in the KV buffer" if memory.buffer_tokens else ""
    return (
        f"each device: {memory.weight_bytes / GIB:.1f} GiB of weights, "
        f"{memory.activation_bytes / GIB:.1f} GiB for a step's results; "
        f"each replica: {memory.kv_tokens:,} tokens of KV{buffer}"
    )


def _dtype_flags(options: argparse.Namespace) -> list[str]:
    """Return the dtypes that the plan was made for, as the worker's flags."""
    dtypes = {"--dtype": options.dtype, "--kv-cache-dtype": options.kv_cache_dtype}
    return [f"{flag} {value}" for flag, value in dtypes.items() if value != "auto"]


def _count(number: float) -> str:
    return f"{number / 1e9:.1f} B" if number >= 1e9 else f"{number / 1e6:.0f} M"


def _command(args: PlannerArgs, best: Estimate, options: argparse.Namespace) -> str:
    """Return the worker's command line for the plan's choice."""
    decode, prefill, limits = best.decode, best.prefill, args.limits
    flags = [
        f"--decode-tensor-parallel-size {decode.tensor}",
        f"--decode-pipeline-parallel-size {decode.pipeline}",
    ]
    if best.is_static:
        flags.append("--reshard never")
    else:
        buffer_gib = limits.buffer_bytes * decode.tensor * decode.pipeline / GIB
        flags += [
            f"--prefill-tensor-parallel-size {prefill.tensor}",
            f"--prefill-pipeline-parallel-size {prefill.pipeline}",
            f"--kv-buffer-gib {buffer_gib:g}",
            f"--flush-timeout-s {limits.flush_timeout_s:g}",
        ]
    flags += [
        f"--max-num-batched-tokens {best.step_tokens}",
        f"--max-num-seqs {best.max_requests}",
    ]
    flags += _dtype_flags(options)
    workers = f"  (each of {decode.data} workers)" if decode.data > 1 else ""
    return f"seesaw worker {options.model} {' '.join(flags)}{workers}"
