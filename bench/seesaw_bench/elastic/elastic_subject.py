"""A worker's elastic engine, as a subject of the benchmark: its code under a scripted policy.

It imports vLLM only after its fork server has started, as the worker does.
"""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any

from seesaw_bench.worker.link import Job, answer, run_subject
from seesaw_worker.modes.plugin import SERVER_PID_VARIABLE

_POLICY = "seesaw_bench.elastic.scripted.ScriptedPolicy"


async def serve(fd: int, job: Job) -> None:
    """Start the engine, and run commands until the benchmark closes the connection."""
    from seesaw_bench.elastic.asking import commands
    from seesaw_bench.elastic.plain_subject import engine_args
    from seesaw_core.layouts import Layout
    from seesaw_core.resharding.policy import PhasePolicy
    from seesaw_worker.modes.client import WatchedLLM
    from seesaw_worker.modes.elastic.mode import elastic_config
    from seesaw_worker.modes.elastic.settings import InstanceSettings
    from seesaw_worker.processes.shm import RunFolder
    from seesaw_worker.settings.engine import WeightsMode
    from seesaw_worker.settings.worker import WorkerSettings

    settings = WorkerSettings(
        prefill=Layout(),
        decode=Layout(),
        kv_buffer_gib=1.0,
        shm_dir=Path("/dev/shm"),
        policy=PhasePolicy(),
        weights=WeightsMode.SHARED,
        drain_timeout_s=1.0,
        elastic_instances=job.ranks,
    )
    config = elastic_config(engine_args(job), settings)
    folder = RunFolder.create(settings.shm_dir)
    try:
        instances = dataclasses.replace(
            InstanceSettings.of(config.additional_config),
            policy=_POLICY,
            weights_folder=str(folder.path),
        )
        config.additional_config = instances.added_to(config.additional_config)
        llm = WatchedLLM.from_vllm_config(config, disable_log_stats=True)

        async def costs() -> dict[int, Any]:
            answers: list[dict[int, Any]] = await llm.engine_core.collective_rpc_async(
                "elastic_costs"
            )
            return answers[0]

        await answer(fd, commands(llm) | {"costs": costs})
        with contextlib.suppress(Exception):
            llm.shutdown()
    finally:
        folder.close()


if __name__ == "__main__":
    os.environ[SERVER_PID_VARIABLE] = str(os.getpid())
    os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"
    from seesaw_worker.processes.forking import start_fork_server

    start_fork_server()
    run_subject(serve)
