"""``seesaw calibrate``: measure the machine at hand, and write a profile of it.

Starts the real worker under a tensor-parallel and a pipeline-parallel layout, sends each a short
sweep of requests, fits the cost model's constants to how long they took, and times transitions
between the two. ``plan`` and ``simulate`` then read the profile with --profile. With --check it
goes on to predict two other workloads under both static layouts and under the pair that re-shards,
measures them under two workers each, and prints both; it fails if a prediction is off by more than
--tolerance. Takes three minutes, with --check eight.

  seesaw calibrate ./model --devices 2 --output profile.json --check

People read standard error and the table; the profile goes to --output. The machine should have
nothing else to do meanwhile. Exit codes: 0 done, 1 a prediction is off or a worker failed, 2 bad
input.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from seesaw_cli.calibrate_runs import Machine, Run, measure
from seesaw_cli.commandline import CommandParser
from seesaw_cli.questions import read_model, table
from seesaw_core.accelerators import GIB, Accelerator, Interconnect, builtin_catalogue
from seesaw_core.costs import StepCosts
from seesaw_core.errors import BrokenError, InputError
from seesaw_core.layouts import Layout, LayoutPair
from seesaw_core.models import Model
from seesaw_core.policy import PhasePolicy, Reshard
from seesaw_core.profiles import Profile
from seesaw_core.workloads import Request
from seesaw_sim.draws import Lengths, draw_requests
from seesaw_sim.fitting import Measurement, fit
from seesaw_sim.simulate import Scenario

_BUFFER_GIB = 1.0
_MAX_REQUESTS = 32
_STEP_TOKENS = 512
_FLUSH_S = 10.0
_LONGEST = 1024
_CHECK_STARTS = 2
_POOL_REQUESTS = 12  # of the greatest length, at a time


def run(arguments: list[str]) -> int:
    """Calibrate, and check if asked."""
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
        pool_bytes=_POOL_REQUESTS * longest * model.kv_bytes_per_token // options.devices,
        step_tokens=_STEP_TOKENS,
        max_requests=_MAX_REQUESTS,
        buffer_gib=_BUFFER_GIB,
        flush_timeout_s=_FLUSH_S,
        log=Path(tempfile.gettempdir()) / "seesaw-calibrate.log",
    )
    bench = Bench(model=model, device=device, machine=machine, devices=options.devices)
    sweep = bench.static_runs(_sweep(machine.longest))
    found = fit(sweep, start)
    _say(f"fitted in {found.rounds} rounds; the sweep is met to {100 * found.error:.1f} % (RMS)")
    transition_s = bench.transition_s(_sweep(machine.longest)[:1])
    profile = replace(
        found.profile,
        name=f"measured on {options.devices} devices with {model.name}",
        transition_overhead_ms=1e3 * bench.overhead_s(transition_s, found.profile),
    )
    checks = bench.check_runs(_checks(machine.longest)) if options.check else []
    options.output.write_text(json.dumps(_as_json(device, profile, sweep, transition_s), indent=2))
    _say(f"written: {options.output}")
    print(_text("sweep", sweep, profile))
    if not checks:
        return 0
    print()
    print(_text("check", checks, profile))
    worst = max(abs(m.seconds / m.predicted_s(profile) - 1) for m in checks)
    kept = worst <= options.tolerance / 100
    print(f"largest error {100 * worst:.1f} %, allowed {options.tolerance:g} %")
    return 0 if kept else 1


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    made = CommandParser(prog="seesaw calibrate", description=__doc__)
    made.add_argument("model", metavar="MODEL", help="a folder with a checkpoint")
    made.add_argument("--devices", type=int, default=2, metavar="N", help="default: 2")
    made.add_argument(
        "--accelerator",
        metavar="NAME",
        help="from the catalogue; default: this machine's processor cores, a core a rank",
    )
    made.add_argument("--dtype", default="auto", help="as for vLLM (default: auto)")
    made.add_argument(
        "--output",
        type=Path,
        default=Path("profile.json"),
        metavar="FILE",
        help="default: profile.json",
    )
    made.add_argument("--check", action="store_true", help="predict, measure and compare")
    made.add_argument(
        "--tolerance", type=float, default=15.0, metavar="PERCENT", help="default: 15"
    )
    return made


def _parse(arguments: list[str]) -> argparse.Namespace:
    options = parser().parse_args(arguments)
    if options.devices < 2:
        raise InputError(f"--devices={options.devices} must be at least 2: layouts are compared")
    if not options.tolerance > 0:
        raise InputError(f"--tolerance={options.tolerance} must be above 0")
    cores = len(os.sched_getaffinity(0))
    if options.accelerator is None and options.devices > cores:
        raise InputError(
            f"--devices={options.devices}: a rank needs a core of its own, and this process may "
            f"use {cores}; give --accelerator to calibrate GPUs"
        )
    if not options.output.resolve().parent.is_dir():
        raise InputError(f"--output={options.output}: there is no such folder")
    if options.output.is_dir():
        raise InputError(f"--output={options.output} is a folder; name a file in it")
    return options


def _check_checkpoint(folder: Path) -> None:
    """Raises: InputError if the model could be planned for, but not run."""
    for what, patterns in (
        ("weights", ("*.safetensors", "*.bin", "*.pt")),
        ("tokenizer", ("tokenizer*", "vocab.json", "tekken.json")),
    ):
        if not folder.is_dir() or not any(list(folder.glob(p)) for p in patterns):
            raise InputError(
                f"MODEL={folder}: no {what} there ({', '.join(patterns)}), and calibrating runs "
                "the model; give a checkpoint's folder"
            )


def _device(name: str | None) -> tuple[Accelerator, Profile]:
    """A data sheet for the fit to start from. Processor cores have none: round figures serve."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is measured: one model on so many devices of this machine."""

    model: Model
    device: Accelerator
    machine: Machine
    devices: int

    @property
    def layouts(self) -> tuple[Layout, Layout]:
        return Layout(tensor=self.devices), Layout(pipeline=self.devices)

    def static_runs(self, work: list[Run]) -> list[Measurement]:
        """The sweep under both layouts."""
        found = []
        for layout in self.layouts:
            _say(f"measuring {layout}: {len(work)} runs")
            system = LayoutPair(prefill=layout, decode=layout)
            for one, seconds in zip(work, measure(self.machine, system, work).seconds, strict=True):
                found.append(self._measurement(system, one, seconds))
        return found

    @property
    def pair(self) -> LayoutPair:
        tensor, pipeline = self.layouts
        return LayoutPair(prefill=pipeline, decode=tensor)

    def transition_s(self, work: list[Run]) -> float:
        """Seconds of a transition of the pair, while it does some work."""
        _say(f"measuring transitions of {self.pair}")
        seconds = measure(self.machine, self.pair, work).transition_s
        if seconds is None:
            raise BrokenError(f"{self.pair} was told to re-shard always, and never did")
        return seconds

    def overhead_s(self, transition_s: float, profile: Profile) -> float:
        """What a transition takes besides copying weights at the profile's share of the link."""
        free = replace(profile, transition_overhead_ms=0.0)
        copied = [
            StepCosts(self.model, self.device, layout, free).transition_s()
            for layout in self.layouts
        ]
        return max(0.0, transition_s - mean(copied))

    def check_runs(self, work: list[Run]) -> list[Measurement]:
        """Both static layouts and the pair."""
        tensor, pipeline = self.layouts
        systems = [
            LayoutPair(prefill=tensor, decode=tensor),
            LayoutPair(prefill=pipeline, decode=pipeline),
            self.pair,
        ]
        found = []
        for system in systems:
            _say(f"checking {system}")
            times = measure(self.machine, system, work, starts=_CHECK_STARTS).seconds
            found += [self._measurement(system, one, s) for one, s in zip(work, times, strict=True)]
        return found

    def _measurement(self, system: LayoutPair, run: Run, seconds: float) -> Measurement:
        scenario = Scenario(
            model=self.model,
            device=self.device,
            prefill=system.prefill,
            decode=system.decode,
            step_tokens=self.machine.step_tokens,
            max_requests=self.machine.max_requests,
            buffer_bytes=self.machine.buffer_gib * GIB / self.devices,
            policy=PhasePolicy(
                reshard=Reshard.NEVER if system.is_static else Reshard.ALWAYS,
                flush_timeout_s=_FLUSH_S,
            ),
        )
        return Measurement(
            name=f"{system} {run.name}",
            scenario=scenario,
            requests=tuple(run.requests),
            seconds=seconds,
        )


def _sweep(longest: int) -> list[Run]:
    """Short runs, each of which one of the constants rules."""

    def even(name: str, count: int, prompt: int, output: int) -> Run:
        fitting = min(prompt, longest - output)
        request = Request(prompt_tokens=fitting, output_tokens=output)
        return Run(name=name, requests=[request] * count)

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
    """Two workloads that the fit has not seen."""
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
    return [Run(name="prompt-heavy", requests=prompts), Run(name="answer-heavy", requests=answers)]


def _as_json(
    device: Accelerator,
    profile: Profile,
    sweep: list[Measurement],
    transition_s: float,
) -> dict[str, Any]:
    return {
        "profile": asdict(profile),
        "accelerator": asdict(device),
        "transition_s": transition_s,
        "measured": [
            {"run": m.name, "seconds": m.seconds, "predicted_s": m.predicted_s(profile)}
            for m in sweep
        ],
    }


def _text(title: str, found: list[Measurement], profile: Profile) -> str:
    rows: list[tuple[str, ...]] = []
    for m in found:
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


def _say(line: str) -> None:
    print(f"seesaw calibrate: {line}", file=sys.stderr, flush=True)
