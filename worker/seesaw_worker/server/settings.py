"""Builds the worker's settings from parsed flags."""

from argparse import Namespace

from seesaw_core.errors import LayoutError
from seesaw_core.layouts import Layout
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_worker.planning.flags import planning_of
from seesaw_worker.processes.stalls import StallBounds
from seesaw_worker.server.flags import check_shm_dir
from seesaw_worker.settings.engine import WeightsMode
from seesaw_worker.settings.worker import WorkerSettings


def settings_of(args: Namespace) -> WorkerSettings:
    """Return the worker's settings. Raises: InputError, LayoutError.

    With ``--parallelism=auto`` both layouts have one device until the planner has chosen.
    """
    planning = planning_of(args)
    decode = _decode_layout(args)
    prefill = _prefill_layout(args, decode)
    check_shm_dir(args.shm_dir)
    return WorkerSettings(
        prefill=prefill,
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
        verify_kv=args.verify_kv,
        stall=StallBounds(
            unhealthy_s=args.stall_unhealthy_s, exit_s=args.stall_exit_s, load_s=args.load_exit_s
        ),
        always_replay=args.always_replay_weights,
        elastic_instances=args.elastic_instances,
        elastic_timeout_s=args.elastic_timeout_s,
        planning=planning,
    )


def _decode_layout(args: Namespace) -> Layout:
    for size in ("tensor_parallel_size", "pipeline_parallel_size"):
        flag, value = "--" + size.replace("_", "-"), getattr(args, size)
        if value < 1:
            raise LayoutError(f"{flag}={value}: must be at least 1")
        own = getattr(args, f"decode_{size}")
        if value != 1 and own not in (None, value):
            raise LayoutError(
                f"{flag}={value} and --decode-{flag[2:]}={own} both set the decode layout; give "
                "one of them"
            )
    return Layout(
        tensor=_or(args.decode_tensor_parallel_size, args.tensor_parallel_size),
        pipeline=_or(args.decode_pipeline_parallel_size, args.pipeline_parallel_size),
    )


def _prefill_layout(args: Namespace, decode: Layout) -> Layout:
    tensor = args.prefill_tensor_parallel_size
    pipeline = args.prefill_pipeline_parallel_size
    if args.elastic_instances:  # whose mode refuses a layout for prefill by name
        return decode
    if pipeline is None:
        if decode.num_devices % tensor:
            raise LayoutError(
                f"--prefill-tensor-parallel-size={tensor} does not divide the "
                f"{decode.num_devices} devices of the decode layout {decode}; give a divisor, or "
                "--prefill-pipeline-parallel-size as well"
            )
        pipeline = decode.num_devices // tensor
    return Layout(tensor=tensor, pipeline=pipeline)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
