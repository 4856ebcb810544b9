"""Seesaw's two engines, as a subject of the benchmark: the worker's code under a scripted policy.

It imports vLLM only after its fork server has started, as the worker does.
"""

import asyncio
import contextlib
import os
from pathlib import Path

from seesaw_bench.worker.link import Job, answer, run_subject
from seesaw_bench.worker.policy import ScriptedPolicy
from seesaw_bench.worker.workload import DECODE, PREFILL
from seesaw_core.errors import EngineDiedError
from seesaw_worker.modes.plugin import SERVER_PID_VARIABLE

_COMMANDS = ("ready", "switch", "memcpy", "transitions", "prefill", "store", "decode")


async def serve(fd: int, job: Job) -> None:
    """Start both engines, and run commands until the benchmark closes the connection."""
    from seesaw_bench.worker.plain_subject import engine_args
    from seesaw_bench.worker.seesaw_commands import SeesawCommands
    from seesaw_bench.worker.taps import Events
    from seesaw_core.resharding.policy import PhasePolicy
    from seesaw_worker.modes import preflight
    from seesaw_worker.modes.resharding import configs, sizes
    from seesaw_worker.modes.resharding.llm import start_llm
    from seesaw_worker.processes.shm import RunFolder
    from seesaw_worker.settings.engine import WeightsMode
    from seesaw_worker.settings.worker import WorkerSettings

    mode = WeightsMode.SHARED if job.kind == "seesaw" else WeightsMode.RESIDENT
    settings = WorkerSettings(
        prefill=PREFILL,
        decode=DECODE,
        kv_buffer_gib=job.buffer_gib,
        shm_dir=Path("/dev/shm"),
        policy=PhasePolicy(),
        weights=mode,
        drain_timeout_s=1.0,
    )
    args = engine_args(job)
    shape = sizes.shape_of(configs.probe(args))
    tensors = preflight.checkpoint_tensors(job.model) if mode is WeightsMode.SHARED else ()
    folder = RunFolder.create(settings.shm_dir)
    try:
        engines = configs.engine_configs(
            args, settings, folder=folder.path, shape=shape, tensors=tensors
        )
        policy, events = ScriptedPolicy(), Events()
        llm = await start_llm(
            engines, policy=policy, observer=events, on_death=_die, log_stats=False
        )
        commands = SeesawCommands(llm, policy, events)
        await answer(fd, {name: getattr(commands, name) for name in _COMMANDS})
        with contextlib.suppress(Exception):
            llm.shutdown()
    finally:
        folder.close()


def _die(error: EngineDiedError) -> None:
    """Exit. The benchmark detects the end of the stream and shows the log."""
    print(f"seesaw bench: {error}", flush=True)
    asyncio.get_running_loop().call_later(0.5, os._exit, 1)


if __name__ == "__main__":
    os.environ[SERVER_PID_VARIABLE] = str(os.getpid())
    from seesaw_worker.processes.forking import start_fork_server

    start_fork_server()
    run_subject(serve)
