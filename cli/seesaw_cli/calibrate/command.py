"""``seesaw calibrate``: measure this machine, and write its profile for the cost model.

The command starts the real worker under a tensor-parallel layout, under a pipeline-parallel one and
under the pair that re-shards between them, one after the other, and repeats all three --rounds
times. The static workers serve a short sweep of requests, and the cost model's constants are fitted
to the times. The pair's worker times transitions. `seesaw plan` and `seesaw simulate` read the
profile with --profile.

With --check each worker also serves two other workloads, which the fit does not see. The command
prints predictions and measurements, and fails if a prediction is off by more than --tolerance.

  seesaw calibrate ./model --devices 2 --output profile.json --check

The command takes five minutes, and eight with --check; keep the machine otherwise idle. Progress
goes to standard error, the table to standard output, the profile to --output. Exit codes: 0 done, 1
a prediction is off or a worker failed, 2 bad input.
"""

import argparse
import json
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from seesaw_cli.calibrate.rounds import Bench, Measured
from seesaw_cli.calibrate.runs import Machine, Run, say
from seesaw_cli.planner_flags.flags import read_model, table
from seesaw_core.errors import InputError
from seesaw_core.planner.accelerators import Accelerator, Interconnect, builtin_catalogue
from seesaw_core.planner.profiles import Profile
from seesaw_core.planner.workloads import Request
from seesaw_core.resharding.policy import PhasePolicy
from seesaw_core.units import GIB
from seesaw_flags.files import OutputFile
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import POSITIVE, Whole
from seesaw_sim.draws import Lengths, draw_requests
from seesaw_sim.fitting import Measurement, fit

# Small enough for a laptop and for runs of seconds, large enough that runs differ in what they
# spend their time on.
_MAX_REQUESTS = 32
_STEP_TOKENS = 512
_LONGEST = 1024  # tokens of a request
_POOL_REQUESTS = 12  # of the greatest length that fit into the KV pool together
_BUFFER_GIB = 1.0  # holds the longest run's prompts for the small models that CPU ranks serve
_MOST_SPREAD = 0.2  # between rounds, above the 10 % by which a shared machine drifts


def run(arguments: list[str]) -> int:
    """Calibrate, and check the predictions with --check. Returns 1 if one is off, else 0."""
    options = _parse(arguments)
    model = read_model(options.model, dtype=options.dtype, kv_dtype="auto")
    _check_checkpoint(Path(options.model))
    device, start = _device(options.accelerator)
    longest = min(model.max_tokens, _LONGEST)
    machine = Machine(
        model=Path(options.model),
        dtype=options.dtype,
        on_cpu=options.accelerator is None,
        longest=longest,
        pool_bytes=int(_POOL_REQUESTS * longest * model.kv_bytes_per_token // options.devices),
        step_tokens=_STEP_TOKENS,
        max_requests=_MAX_REQUESTS,
        buffer_gib=_BUFFER_GIB,
        flush_timeout_s=PhasePolicy().flush_timeout_s,
        log=Path(tempfile.mkdtemp(prefix="seesaw-calibrate-")) / "worker.log",
    )
    bench = Bench(model=model, device=device, machine=machine, devices=options.devices)
    checks = _checks(machine.longest) if options.check else []
    measured = bench.measure(_sweep(machine.longest), checks, rounds=options.rounds)
    fitted = fit(measured.sweep, start)
    say(
        f"fitted in {fitted.rounds} steps; the RMS error on the sweep is {100 * fitted.error:.1f} %"
    )
    profile = replace(
        fitted.profile,
        name=f"measured on {options.devices} devices with {model.name}",
        transition_overhead_ms=1e3 * bench.overhead_s(measured.transition_s, fitted.profile),
    )
    options.output.write_text(json.dumps(_as_json(device, profile, measured), indent=2))
    say(f"written: {options.output}")
    print(_text("sweep", measured.sweep, profile))
    if measured.spread > _MOST_SPREAD:
        print(
            f"note: {measured.least_steady} differed by {100 * measured.spread:.0f} % from round "
            "to round; was the machine busy with other work?"
        )
    if not checks:
        return 0
    print()
    print(_text("check", measured.checks, profile))
    worst = max(abs(m.seconds / m.predicted_s(profile) - 1) for m in measured.checks)
    kept = worst <= options.tolerance / 100
    print(f"largest error {100 * worst:.1f} %, allowed {options.tolerance:g} %")
    return 0 if kept else 1


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    command = CommandParser(prog="seesaw calibrate", description=__doc__)
    command.add_argument(
        "model", metavar="MODEL", help="folder of a checkpoint with weights and tokenizer"
    )
    command.add_argument(
        "--devices",
        type=Whole(least=2, most=1024),
        default=2,
        metavar="N",
        help="number of devices (default: %(default)s)",
    )
    command.add_argument(
        "--accelerator",
        metavar="NAME",
        help="name in the catalogue (default: this machine's processor cores, one for each rank)",
    )
    command.add_argument(
        "--dtype",
        default="auto",
        help="dtype of weights and activations, as for vLLM (default: auto)",
    )
    command.add_argument(
        "--output",
        type=OutputFile(),
        default=Path("profile.json"),
        metavar="FILE",
        help="where to write the profile (default: %(default)s)",
    )
    command.add_argument(
        "--rounds",
        type=Whole(most=1000),
        default=2,
        metavar="N",
        help="how often to measure each layout, with a new worker each time (default: %(default)s)",
    )
    command.add_argument(
        "--check", action="store_true", help="compare predictions with measurements"
    )
    command.add_argument(
        "--tolerance",
        type=POSITIVE,
        default=15.0,
        metavar="PERCENT",
        help="largest error of a prediction that --check allows (default: %(default)g)",
    )
    return command


def _parse(arguments: list[str]) -> argparse.Namespace:
    options = parser().parse_args(arguments)
    cores = len(os.sched_getaffinity(0))
    if options.accelerator is None and options.devices > cores:
        raise InputError(
            f"--devices={options.devices}: a rank needs a core of its own, and this process may "
            f"use {cores}; give --accelerator to calibrate GPUs"
        )
    return options


def _check_checkpoint(folder: Path) -> None:
    """Raises: InputError if the folder lacks weights or a tokenizer, and so cannot be served."""
    for what, patterns in (
        ("weights", ("*.safetensors", "*.bin", "*.pt")),
        ("tokenizer", ("tokenizer*", "vocab.json", "tekken.json")),
    ):
        if not folder.is_dir() or not any(list(folder.glob(p)) for p in patterns):
            raise InputError(
                f"MODEL={folder}: no {what} there ({', '.join(patterns)}), and calibrating serves "
                "the model; give the folder of a checkpoint"
            )


def _device(name: str | None) -> tuple[Accelerator, Profile]:
    """Return the data sheet and the profile from which the fit starts.

    Processor cores have no data sheet. Theirs has round figures, and the profile's shares of them
    are rough guesses, since the fit changes both alike.
    """
    if name is not None:
        return builtin_catalogue().accelerator(name), Profile()
    link = Interconnect(name="memory", kind="memory", bytes_per_s=50e9)
    device = Accelerator(
        name="processor core",
        memory_bytes=64.0 * GIB,
        memory_bytes_per_s=50e9,
        flops_16=1e12,
        flops_8=1e12,
        host_link=link,
        peer_link=link,
    )
    start = Profile(
        compute_share=0.1,
        attention_share=0.05,
        memory_share=0.2,
        roofline_power=2.0,
        nvlink_all_reduce_share=0.2,
        all_reduce_latency_us=50.0,
        send_latency_us=500.0,
        layer_overhead_us=100.0,
        step_overhead_ms=5.0,
        request_overhead_us=100.0,
        transition_overhead_ms=10.0,
    )
    return device, start


def _sweep(longest: int) -> list[Run]:
    """Return short runs, in each of which another constant takes most of the time."""

    def even(name: str, count: int, prompt: int, output: int) -> Run:
        fitting = min(prompt, longest - output)
        request = Request(prompt_tokens=fitting, output_tokens=output)
        return Run(name=name, requests=(request,) * count)

    return [
        even("short prompts", 32, 64, 1),
        even("prompts", 8, 400, 1),
        even("long prompts", 4, longest, 1),
        even("one answer", 1, 16, 64),
        even("4 answers", 4, 16, 64),
        even("16 answers", 16, 16, 64),
        even("32 answers", 32, 16, 48),
        even("answers to long prompts", 8, longest - 64, 48),
    ]


def _checks(longest: int) -> list[Run]:
    """Return two workloads that the fit does not see."""
    prompts = draw_requests(
        32,
        prompts=Lengths.around(min(400, longest / 2), spread=0.5),
        outputs=Lengths.around(12, spread=0.4),
        seed=1,
        longest=longest,
    )
    answers = draw_requests(
        64,
        prompts=Lengths.around(100, spread=0.5),
        outputs=Lengths.around(80, spread=0.4),
        seed=2,
        longest=longest,
    )
    return [
        Run(name="prompt-heavy", requests=tuple(prompts)),
        Run(name="answer-heavy", requests=tuple(answers)),
    ]


def _as_json(
    device: Accelerator,
    profile: Profile,
    measured: Measured,
) -> dict[str, Any]:
    return {
        "profile": asdict(profile),
        "accelerator": asdict(device),
        "transition_s": measured.transition_s,
        "measured": [
            {"run": m.name, "seconds": m.seconds, "predicted_s": m.predicted_s(profile)}
            for m in measured.sweep
        ],
    }


def _text(title: str, measurements: list[Measurement], profile: Profile) -> str:
    rows: list[tuple[str, ...]] = []
    for m in measurements:
        predicted_s = m.predicted_s(profile)
        tokens = sum(r.prompt_tokens + r.output_tokens for r in m.requests)
        rows.append(
            (
                m.name,
                f"{tokens / m.seconds:,.0f}",
                f"{tokens / predicted_s:,.0f}",
                f"{100 * (m.seconds / predicted_s - 1):+.1f} %",
            )
        )
    return table((title, "tokens/s measured", "predicted", "error"), rows)
