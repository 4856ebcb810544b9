"""Seesaw's two engines, as a subject of the benchmark: the worker's own code, told what to do.

Imports vLLM only once its fork server is on its way, as the worker does.
"""

import asyncio
import contextlib
import os
from pathlib import Path

from seesaw_core.errors import EngineDiedError
from seesaw_worker.bench.link import Job, answer, run_subject
from seesaw_worker.bench.policy import ToldPolicy
from seesaw_worker.bench.workload import DECODE, PREFILL
from seesaw_worker.plugin import SERVER_PID_VARIABLE

_COMMANDS = ("ready", "switch", "memcpy", "transitions", "prefill", "store", "decode")


async def serve(fd: int, job: Job) -> None:
    """Start both engines and answer until the benchmark hangs up."""
    from seesaw_core.policy import PhasePolicy
    from seesaw_worker import preflight
    from seesaw_worker.bench.plain_subject import engine_args
    from seesaw_worker.bench.seesaw_commands import SeesawCommands
    from seesaw_worker.bench.taps import Events
    from seesaw_worker.engine import configs, sizes
    from seesaw_worker.engine.llm import start_llm
    from seesaw_worker.engine.settings import WeightsMode
    from seesaw_worker.settings import WorkerSettings
    from seesaw_worker.shm import RunFolder

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
        made = configs.engine_configs(
            args, settings, folder=folder.path, shape=shape, tensors=tensors
        )
        policy, events = ToldPolicy(), Events()
        llm = await start_llm(made, policy=policy, observer=events, on_death=_die, log_stats=False)
        able = SeesawCommands(llm, policy, events)
        await answer(fd, {name: getattr(able, name) for name in _COMMANDS})
        with contextlib.suppress(Exception):
            llm.shutdown()
    finally:
        folder.close()


def _die(error: EngineDiedError) -> None:
    """The benchmark sees the end of the stream, and shows the log."""
    print(f"seesaw bench: {error}", flush=True)
    asyncio.get_running_loop().call_later(0.5, os._exit, 1)


if __name__ == "__main__":
    os.environ[SERVER_PID_VARIABLE] = str(os.getpid())
    from seesaw_worker.engine.processes import start_fork_server

    start_fork_server()
    run_subject(serve)
