"""The command line of ``seesaw worker``: vLLM's flags and a few of our own.

The table below is the one source of our flags: parser, settings and generated reference read it.
"""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seesaw_core.errors import InputError, LayoutError
from seesaw_core.layouts import Layout
from seesaw_core.policy import PhasePolicy, Reshard
from seesaw_worker.engine.settings import WeightsMode
from seesaw_worker.settings import WorkerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One flag of ours. ``default`` None means that it follows from other flags."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    choices: tuple[str, ...] | None = None

    @property
    def attribute(self) -> str:
        return self.name.removeprefix("--").replace("-", "_")


FLAGS = (
    Flag(
        name="--decode-tensor-parallel-size",
        parse=int,
        default=None,
        help="Tensor-parallel size while decoding. Default: --tensor-parallel-size.",
    ),
    Flag(
        name="--decode-pipeline-parallel-size",
        parse=int,
        default=None,
        help="Pipeline-parallel size while decoding. Default: --pipeline-parallel-size.",
    ),
    Flag(
        name="--prefill-tensor-parallel-size",
        parse=int,
        default=1,
        help="Tensor-parallel size while prefilling.",
    ),
    Flag(
        name="--prefill-pipeline-parallel-size",
        parse=int,
        default=None,
        help="Pipeline-parallel size while prefilling. Default: what makes both layouts use the "
        "same number of devices.",
    ),
    Flag(
        name="--reshard",
        parse=str,
        default=Reshard.AUTO.value,
        choices=tuple(Reshard),
        help="When to prefill under the prefill layout: 'auto' where measurements say that two "
        "transitions pay, 'always' whenever the KV buffer can carry a prompt, 'never' not at all "
        "(plain vLLM in the decode layout).",
    ),
    Flag(
        name="--kv-buffer-gib",
        parse=float,
        default=4.0,
        help="Shared memory, in GiB, for the KV of prompts on their way from prefill to decode. "
        "The larger, the fewer transitions. Reserved at the start.",
    ),
    Flag(
        name="--weights",
        parse=str,
        default=WeightsMode.SHARED.value,
        choices=tuple(WeightsMode),
        help="'shared': one weights arena per device, refilled at each transition. 'resident': "
        "each engine keeps its own weights, which takes twice the device memory and copies "
        "nothing; on the CPU it also lets vLLM pack them for oneDNN.",
    ),
    Flag(
        name="--flush-timeout-s",
        parse=float,
        default=10.0,
        help="The longest, in seconds, that prompts wait for a wave, or that running requests "
        "stand still for one.",
    ),
    Flag(
        name="--low-watermark",
        parse=float,
        default=0.2,
        help="Share of the KV buffer below which it counts as nearly empty, so that the next "
        "wave may begin.",
    ),
    Flag(
        name="--dwell-transitions",
        parse=float,
        default=3.0,
        help="A decode phase lasts at least this many transition times while it has work.",
    ),
    Flag(
        name="--shm-dir",
        parse=Path,
        default=Path("/dev/shm"),
        help="Memory-backed folder for the KV buffer and the weights arenas.",
    ),
    Flag(
        name="--drain-timeout-s",
        parse=float,
        default=600.0,
        help="How long, in seconds, SIGTERM waits for running requests before it ends them.",
    ),
)


def add_flags(parser: Any) -> None:
    """Add our flags, as a group of their own, to vLLM's parser."""
    group = parser.add_argument_group("Seesaw", "Re-sharding between prefill and decode.")
    for flag in FLAGS:
        shown = "" if flag.default is None else f" Default: {flag.default}."
        group.add_argument(
            flag.name,
            type=flag.parse,
            default=flag.default,
            choices=flag.choices,
            help=(flag.help + shown).replace("%", "%%"),
        )


def settings_of(args: Namespace) -> WorkerSettings:
    """Our settings from parsed flags. Raises: InputError, LayoutError."""
    decode = Layout(
        tensor=_or(args.decode_tensor_parallel_size, args.tensor_parallel_size),
        pipeline=_or(args.decode_pipeline_parallel_size, args.pipeline_parallel_size),
    )
    tensor = args.prefill_tensor_parallel_size
    pipeline = args.prefill_pipeline_parallel_size
    if pipeline is None:
        if tensor < 1 or decode.num_devices % tensor:
            raise LayoutError(
                f"--prefill-tensor-parallel-size={tensor} does not divide the "
                f"{decode.num_devices} devices of the decode layout {decode}; give a divisor, or "
                "--prefill-pipeline-parallel-size as well"
            )
        pipeline = decode.num_devices // tensor
    if args.shm_dir.exists() and not args.shm_dir.is_dir():
        raise InputError(f"--shm-dir={args.shm_dir} is not a folder")
    return WorkerSettings(
        prefill=Layout(tensor=tensor, pipeline=pipeline),
        decode=decode,
        kv_buffer_gib=args.kv_buffer_gib,
        shm_dir=args.shm_dir,
        policy=PhasePolicy(
            reshard=Reshard(args.reshard),
            flush_timeout_s=args.flush_timeout_s,
            low_watermark=args.low_watermark,
            dwell_transitions=args.dwell_transitions,
        ),
        weights=WeightsMode(args.weights),
        drain_timeout_s=args.drain_timeout_s,
    )


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
