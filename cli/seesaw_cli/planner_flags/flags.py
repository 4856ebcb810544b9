"""Flags shared by ``plan`` and ``simulate``: model, devices, workload, engine and profile."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seesaw_cli.planner_flags.trace_files import LARGEST_BYTES
from seesaw_cli.planner_flags.workload import DEFAULTS, read_trace_flag, requests_of
from seesaw_core.errors import InputError, ModelError
from seesaw_core.planner.accelerators import (
    Accelerator,
    Catalogue,
    builtin_catalogue,
    read_catalogue,
)
from seesaw_core.planner.bands import is_measured, known_errors
from seesaw_core.planner.choose import PlanRequest
from seesaw_core.planner.memory import EngineLimits
from seesaw_core.planner.model_configs import describe_model
from seesaw_core.planner.models import Model
from seesaw_core.planner.profiles import Profile, calibrated_device, read_profile
from seesaw_core.planner.workloads import Request, Workload
from seesaw_core.resharding.policy import PhasePolicy
from seesaw_core.units import GIB
from seesaw_flags.files import InputFile, read_text
from seesaw_flags.values import POSITIVE, SEED, Number, Whole
from seesaw_sim.traces import MOST_REQUESTS, TIME_UNITS

_UP_TO_A_MILLION = Whole(most=MOST_REQUESTS)
_MOST_DEVICES = 1024  # far more than any link of the catalogue joins
_SHOWN_CHARS = 200  # of a path in a message
_LIMITS = EngineLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerArgs:
    """The shared flags, read and checked. ``notes`` state what was assumed or changed."""

    model: Model
    device: Accelerator
    num_devices: int
    profile: Profile
    limits: EngineLimits
    requests: list[Request]
    is_trace: bool
    data_parallel: bool
    is_calibrated: bool
    notes: tuple[str, ...]

    def plan_request(self, workload: Workload) -> PlanRequest:
        """Return the request for the planner."""
        return PlanRequest(
            model=self.model,
            device=self.device,
            num_devices=self.num_devices,
            workload=workload,
            profile=self.profile,
            limits=self.limits,
            data_parallel=self.data_parallel,
            is_calibrated=self.is_calibrated,
        )


class _ListAccelerators(argparse.Action):
    """Prints the catalogue and exits."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, *_: Any) -> None:
        print(list_accelerators(namespace))
        parser.exit()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of :class:`PlannerArgs`."""
    parser.add_argument("model", metavar="MODEL", help="a config.json, or the folder that has it")
    place = parser.add_argument_group("devices")
    place.add_argument(
        "--accelerator",
        metavar="NAME",
        help="name in the catalogue, such as A10, L4, A100-SXM-80 or H100-SXM (required); --list "
        "shows all",
    )
    place.add_argument(
        "--devices",
        type=Whole(most=_MOST_DEVICES),
        default=8,
        metavar="N",
        help="number of devices (default: %(default)s)",
    )
    place.add_argument(
        "--accelerators",
        type=InputFile(),
        metavar="FILE",
        help="TOML file with accelerators of your own",
    )
    place.add_argument(
        "--list",
        action=_ListAccelerators,
        nargs=0,
        help="list the accelerators and exit; put --accelerators before it to list its file's too",
    )
    place.add_argument(
        "--profile", type=InputFile(), metavar="FILE", help="profile that `seesaw calibrate` wrote"
    )
    work = parser.add_argument_group("workload")
    work.add_argument(
        "--prompt-tokens",
        type=Number(least=1),
        default=DEFAULTS["prompt_tokens"],
        metavar="N",
        help="mean length of the prompts (default: %(default)g)",
    )
    work.add_argument(
        "--output-tokens",
        type=Number(least=1),
        default=DEFAULTS["output_tokens"],
        metavar="N",
        help="mean length of the answers (default: %(default)g)",
    )
    work.add_argument(
        "--spread",
        type=Number(most=3),
        default=DEFAULTS["spread"],
        metavar="S",
        help="standard deviation of the lengths' logarithm; 0 for equal lengths (default: "
        "%(default)g)",
    )
    work.add_argument(
        "--trace",
        type=InputFile(most_bytes=LARGEST_BYTES),
        metavar="FILE",
        help="take the requests from a file instead: CSV with columns arrival_s, prompt_tokens and "
        "output_tokens, or the published form of Azure, BurstGPT (CSV) or Mooncake (JSON lines); "
        "may be gzipped",
    )
    work.add_argument(
        "--trace-time-unit",
        choices=TIME_UNITS,
        default="auto",
        help="unit of the trace's arrival times (default: auto, from the names of its fields)",
    )
    work.add_argument(
        "--requests",
        type=_UP_TO_A_MILLION,
        default=DEFAULTS["requests"],
        metavar="N",
        help="number of requests (default: %(default)s)",
    )
    work.add_argument(
        "--seed", type=SEED, default=0, help="seed of the random lengths (default: 0)"
    )
    engine = parser.add_argument_group("engine")
    engine.add_argument(
        "--kv-buffer-gib-per-device",
        type=POSITIVE,
        default=_LIMITS.buffer_bytes / GIB,
        metavar="GIB",
        help="host memory of the KV buffer for each device (default: %(default)g); the worker's "
        "--kv-buffer-gib is for all devices together",
    )
    engine.add_argument(
        "--max-num-seqs",
        type=_UP_TO_A_MILLION,
        default=_LIMITS.max_requests,
        metavar="N",
        help="requests in a step, as for vLLM (default: %(default)s)",
    )
    engine.add_argument(
        "--max-num-batched-tokens",
        type=_UP_TO_A_MILLION,
        nargs="+",
        default=list(_LIMITS.step_tokens),
        metavar="N",
        help="tokens in a step, as for vLLM: one or more values to choose from (default: 512 to "
        "8192)",
    )
    engine.add_argument(
        "--flush-timeout-s",
        type=POSITIVE,
        default=PhasePolicy().flush_timeout_s,
        metavar="S",
        help="as for the worker: the longest phase while requests wait for the other phase; set it "
        "long for offline work (default: %(default)g)",
    )
    engine.add_argument(
        "--max-model-len",
        type=_UP_TO_A_MILLION,
        metavar="N",
        help="most tokens of a request, as for vLLM (default: the model's own)",
    )
    engine.add_argument(
        "--dtype",
        default="auto",
        help="dtype of weights and activations, as for vLLM (default: auto)",
    )
    engine.add_argument(
        "--kv-cache-dtype", default="auto", help="dtype of KV, as for vLLM (default: auto)"
    )
    engine.add_argument(
        "--no-data-parallel", action="store_true", help="plan for one replica over all devices"
    )


def read_flags(options: argparse.Namespace) -> PlannerArgs:
    """Raises: InputError naming the flag or file, the value and what would be accepted."""
    if options.accelerator is None:
        names = ", ".join(_catalogue(options).accelerators)
        raise InputError(f"--accelerator is needed; known: {names}")
    catalogue = _catalogue(options)
    device, profile = catalogue.accelerator(options.accelerator), Profile()
    if options.profile is not None:
        profile = read_profile_file(options.profile)
    trace = read_trace_flag(options)  # before the model, which may take seconds to read
    model = read_model(options.model, dtype=options.dtype, kv_dtype=options.kv_cache_dtype)
    if options.max_model_len is not None:
        model = replace(model, max_tokens=options.max_model_len)
    requests, notes = requests_of(options, model, trace)
    notes += _link_notes(device, options.devices)
    is_calibrated, more = _calibration(options, device)
    notes.append(_error_note(model, device, profile, is_calibrated=is_calibrated))
    notes += more
    return PlannerArgs(
        model=model,
        device=device,
        num_devices=options.devices,
        profile=profile,
        limits=EngineLimits(
            step_tokens=tuple(options.max_num_batched_tokens),
            max_requests=options.max_num_seqs,
            buffer_bytes=options.kv_buffer_gib_per_device * GIB,
            flush_timeout_s=options.flush_timeout_s,
        ),
        requests=requests,
        is_trace=options.trace is not None,
        data_parallel=not options.no_data_parallel,
        is_calibrated=is_calibrated,
        notes=(*model.assumptions, *notes),
    )


def read_model(path: str, *, dtype: str, kv_dtype: str) -> Model:
    """Read a model's config.json. Raises: ModelError if it is missing or not understood."""
    from seesaw_worker.planning.config_files import read_object, with_quantization
    from seesaw_worker.planning.defaults import with_defaults

    given = Path(path)
    try:
        file = given / "config.json" if given.is_dir() else given
        file.stat()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"MODEL={path[:_SHOWN_CHARS]}: cannot read a config.json there "
            f"({getattr(error, 'strerror', None) or error}); give a folder that has one, or the "
            "file itself"
        ) from error
    name = given.resolve().name if given.is_dir() else given.stem
    try:
        prefix = file.name.removesuffix("config.json") if file.name.endswith("config.json") else ""
        config = with_quantization(read_object(file), file.parent, prefix=prefix)
        return describe_model(with_defaults(config), name=name, dtype=dtype, kv_dtype=kv_dtype)
    except ModelError as error:
        raise ModelError(f"MODEL={path}: {error}") from error


def _error_note(model: Model, device: Accelerator, profile: Profile, *, is_calibrated: bool) -> str:
    """Note what predictions are made of, and how far off such predictions were."""
    error = known_errors(model, device, profile, is_calibrated=is_calibrated).figure
    if is_calibrated:
        return f"predicted from --profile: rates are taken to be within {100 * error:.0f} %"
    has_kernels = is_measured(model, device, profile)
    source = f"kernels measured on {device.name}" if has_kernels else f"{device.name}'s data sheet"
    links = ", links aside" if device.peer_link.kind == "pcie" else ""
    return (
        f"predicted from {source}: nine in ten public runs were within {100 * error:.0f} %{links}"
    )


def _calibration(options: argparse.Namespace, device: Accelerator) -> tuple[bool, list[str]]:
    """Return whether ``--profile`` was measured on the device, and a note if on another."""
    if options.profile is None:
        return False, []
    name = calibrated_device(read_text(options.profile, flag="--profile"))
    if name is None or name == device.name:
        return name is not None, []
    return False, [f"--profile={options.profile} was measured on {name!r}, not on {device.name}"]


def read_profile_file(path: Path) -> Profile:
    return read_profile(read_text(path, flag="--profile"), source=f"--profile={path}")


def list_accelerators(options: argparse.Namespace) -> str:
    """Return the catalogue as a table."""
    catalogue = _catalogue(options)
    rows: list[tuple[str, ...]] = [
        (
            a.name,
            f"{a.memory_bytes / GIB:.1f}",
            f"{a.memory_bytes_per_s / 1e9:,.0f}",
            f"{a.flops_16 / 1e12:,.0f}",
            a.peer_link.name,
            a.host_link.name,
        )
        for a in catalogue.accelerators.values()
    ]
    return table(
        ("accelerator", "memory GiB", "memory GB/s", "16-bit TFLOPS", "to each other", "to host"),
        rows,
    )


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Lay out rows in columns, the first aligned left and the others right."""
    widths = [max(len(r[i]) for r in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _catalogue(options: argparse.Namespace) -> Catalogue:
    catalogue = builtin_catalogue()
    if options.accelerators is not None:
        text = read_text(options.accelerators, flag="--accelerators")
        source = f"--accelerators={options.accelerators}"
        catalogue = read_catalogue(text, source=source, extends=catalogue)
    return catalogue


def _link_notes(device: Accelerator, num_devices: int) -> list[str]:
    """Note that there are more devices than one direct link joins."""
    if device.domain is None or num_devices <= device.domain:
        return []
    note = (
        f"{num_devices} x {device.name} are more than the {device.domain} that one "
        f"{device.peer_link.name} domain joins. The costs are those of one domain, so layouts with "
        f"more than {device.domain} devices a replica will be slower than predicted"
    )
    return [note]
