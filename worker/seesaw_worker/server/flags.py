"""Seesaw's own flags of ``seesaw worker``, which takes those of ``vllm serve`` as well.

The table below is the one source of these flags: the parser, the settings and the generated
reference read it.
"""

import os
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seesaw_core.errors import InputError
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_flags.files import InputFolder
from seesaw_flags.parser import CommandParser
from seesaw_flags.values import NOT_NEGATIVE, POSITIVE, Number, Whole
from seesaw_worker.planning import flags as planning_flags
from seesaw_worker.processes.stalls import StallBounds
from seesaw_worker.settings.config_file import as_arguments, config_path, read_config
from seesaw_worker.settings.engine import WeightsMode
from seesaw_worker.settings.flag import Flag
from seesaw_worker.upstream.vllm_flags import BY_FLAG

_LONGEST_SHM_DIR = 64
GROUP = "Seesaw"
_POLICY = PhasePolicy()

FLAGS = (
    Flag(
        name="--decode-tensor-parallel-size",
        sets="decode",
        parse=Whole(),
        default=None,
        help="Tensor-parallel size while decoding. Default: --tensor-parallel-size.",
    ),
    Flag(
        name="--decode-pipeline-parallel-size",
        sets="decode",
        parse=Whole(),
        default=None,
        help="Pipeline-parallel size while decoding. Default: --pipeline-parallel-size.",
    ),
    Flag(
        name="--prefill-tensor-parallel-size",
        sets="prefill",
        parse=Whole(),
        default=1,
        help="Tensor-parallel size while prefilling.",
    ),
    Flag(
        name="--prefill-pipeline-parallel-size",
        sets="prefill",
        parse=Whole(),
        default=None,
        help="Pipeline-parallel size while prefilling. Default: what makes both layouts use the "
        "same number of devices.",
    ),
    Flag(
        name="--reshard",
        sets="policy.reshard",
        parse=str,
        default=_POLICY.reshard.value,
        choices=tuple(r.value for r in Reshard),
        help="When to prefill in the prefill layout: 'auto' re-shards where measurements show "
        "that it pays for two transitions, 'always' whenever the KV buffer can carry a prompt, "
        "'never' not at all (plain vLLM in the decode layout).",
    ),
    Flag(
        name="--kv-buffer-gib",
        sets="kv_buffer_gib",
        parse=POSITIVE,
        default=4.0,
        help="Shared memory, in GiB, for the KV of prompts on their way from prefill to decode. "
        "A larger buffer means fewer transitions. It is reserved at the start.",
    ),
    Flag(
        name="--weights",
        sets="weights",
        parse=str,
        default=WeightsMode.SHARED.value,
        choices=tuple(m.value for m in WeightsMode),
        help="'shared': one weights arena per device, refilled at each transition. 'resident': "
        "each engine keeps its own weights, which takes twice the device memory for weights but "
        "copies nothing; on the CPU it also lets vLLM pack the weights for oneDNN.",
    ),
    Flag(
        name="--elastic-instances",
        sets="elastic_instances",
        parse=Whole(least=0, most=64),
        default=0,
        help="Serve with this many instances of --tensor-parallel-size ranks each, which form "
        "groups anew for every iteration, instead of re-sharding. 0 for not at all.",
    ),
    Flag(
        name="--elastic-timeout-s",
        sets="elastic_timeout_s",
        parse=POSITIVE,
        default=120.0,
        help="With --elastic-instances, how long, in seconds, an iteration of a group may take "
        "before an instance that has not answered is given up. Its requests start again elsewhere.",
    ),
    Flag(
        name="--flush-timeout-s",
        sets="policy.flush_timeout_s",
        parse=POSITIVE,
        default=_POLICY.flush_timeout_s,
        help="Longest time, in seconds, that prompts wait for a wave once the buffer has room, or "
        "that running requests stand still during a wave. At least the dwell time "
        "(--dwell-transitions).",
    ),
    Flag(
        name="--low-watermark",
        sets="policy.low_watermark",
        parse=Number(below=1),
        default=_POLICY.low_watermark,
        help="Share of the KV buffer below which it counts as nearly empty, so that the next "
        "wave may start.",
    ),
    Flag(
        name="--dwell-transitions",
        sets="policy.dwell_transitions",
        parse=NOT_NEGATIVE,
        default=_POLICY.dwell_transitions,
        help="Shortest decode phase, in multiples of the time of a transition. A decode phase "
        "without work ends at once.",
    ),
    Flag(
        name="--shm-dir",
        sets="shm_dir",
        parse=InputFolder(),
        default=Path("/dev/shm"),
        help="Memory-backed folder for the KV buffer and the weights arenas.",
    ),
    Flag(
        name="--verify-kv",
        sets="verify_kv",
        parse=bool,
        default=False,
        help="Check that every page of KV reaches the decode engine bit for bit as the prefill "
        "engine computed it, and stop the worker if not. Costs some throughput; meant for new "
        "hardware and bug reports.",
    ),
    Flag(
        name="--always-replay-weights",
        sets="always_replay",
        parse=bool,
        default=False,
        help="Fill the weights arenas at every transition, even where both layouts keep the same "
        "bytes on a device and nothing has to be copied; meant for new hardware and timings.",
    ),
    Flag(
        name="--drain-timeout-s",
        sets="drain_timeout_s",
        parse=NOT_NEGATIVE,
        default=600.0,
        help="Time, in seconds, that running requests have to finish after SIGTERM.",
    ),
    Flag(
        name="--stall-unhealthy-s",
        sets="stall.unhealthy_s",
        parse=NOT_NEGATIVE,
        default=StallBounds().unhealthy_s,
        help="Time, in seconds, that an engine may take for one step before /health answers 503, "
        "which it does until the step ends. At least three times the longest step so far. A "
        "quarter of this time is logged. 0 means never.",
    ),
    Flag(
        name="--stall-exit-s",
        sets="stall.exit_s",
        parse=NOT_NEGATIVE,
        default=StallBounds().exit_s,
        help="Time, in seconds, that an engine may take for one step before the worker exits with "
        "code 1. At least three times the longest step so far. It also bounds how long a process "
        "may be stopped (SIGSTOP) while the engines load, and the server at any time. 0 means "
        "never.",
    ),
    Flag(
        name="--load-exit-s",
        sets="stall.load_s",
        parse=NOT_NEGATIVE,
        default=StallBounds().load_s,
        help="Time, in seconds, that the engines may load and warm up before the worker exits with "
        "code 1. Downloads do not count. 0 means never.",
    ),
    *planning_flags.FLAGS,
)


def add_flags(parser: Any) -> None:
    """Add Seesaw's flags to a parser, as a group of their own."""
    group = parser.add_argument_group(GROUP, "Re-sharding between prefill and decode.")
    for flag in FLAGS:
        shown = "" if flag.default is None else f" Default: {flag.default}."
        # The last part prints nothing, and keeps vLLM's formatter from adding the default again.
        text = (flag.help + shown).replace("%", "%%") + "%(default).0s"
        if flag.parse is bool:
            group.add_argument(
                flag.name, action=BooleanOptionalAction, default=flag.default, help=flag.help
            )
        else:
            group.add_argument(
                flag.name, type=flag.parse, default=flag.default, choices=flag.choices, help=text
            )


def check_own_flags(arguments: Sequence[str]) -> Namespace:
    """Check Seesaw's flags, also those of a ``--config`` file, before the slow import of vLLM.

    Returns the flags. Raises: InputError.
    """
    parser = CommandParser("seesaw worker", None, allow_abbrev=False)
    add_flags(parser)
    in_file: list[str] = []
    if (file := config_path(arguments)) is not None:
        in_file = [_in_full(a) for a in as_arguments(read_config(file))]
        try:
            parser.parse_known_args(in_file)
        except InputError as error:
            raise InputError(f"--config={file}: {error}") from error
    args, _ = parser.parse_known_args([*in_file, *map(_in_full, arguments)])
    check_shm_dir(args.shm_dir)
    return args


def _in_full(argument: str) -> str:
    """Spell a flag in full: vLLM also takes ``--kv_buffer_gib``, and unambiguous prefixes."""
    flag, equals, value = argument.partition("=")
    if not flag.startswith("--") or flag == "--":
        return argument
    flag = flag.replace("_", "-")
    others = [f"--{name}".replace("_", "-") for name in BY_FLAG]
    known = [*(each.name for each in FLAGS), *others]
    matching = [name for name in known if name.startswith(flag)]
    return (matching[0] if len(matching) == 1 else flag) + equals + value


def check_shm_dir(folder: Path) -> None:
    """Refuse a folder that cannot hold shared memory. Raises: InputError."""
    hint = "give a writable memory-backed folder, such as /dev/shm or a mounted emptyDir"
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--shm-dir={folder} cannot be written; {hint}")
    if len(os.fsencode(folder)) > _LONGEST_SHM_DIR:
        raise InputError(
            f"--shm-dir={folder} is too long a path for the sockets in it; give one of at most "
            f"{_LONGEST_SHM_DIR} bytes"
        )
