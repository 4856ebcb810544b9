"""The elastic mode: one engine of vLLM over instances that form groups anew for every iteration."""

import asyncio
import contextlib
import dataclasses
import os
from argparse import Namespace
from collections.abc import Mapping

from prometheus_client import CollectorRegistry
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext

from seesaw_core.layouts import Layout
from seesaw_core.messages import ModeName
from seesaw_worker.modes import preflight
from seesaw_worker.modes.client import WatchedLLM
from seesaw_worker.modes.elastic import limits
from seesaw_worker.modes.elastic.attention import REPLACED
from seesaw_worker.modes.elastic.settings import InstanceSettings
from seesaw_worker.modes.elastic.telemetry import Telemetry
from seesaw_worker.modes.mode import Hooks, ModeState
from seesaw_worker.modes.vllm_config import create_config, with_layout
from seesaw_worker.processes.forking import divide_cores
from seesaw_worker.processes.run_folder import create_run_folder
from seesaw_worker.processes.shm import RunFolder
from seesaw_worker.settings.engine import WeightsMode
from seesaw_worker.settings.worker import WorkerSettings

_PARTS = "seesaw_worker.modes.elastic"
_RUNNER_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"


class ElasticMode:
    """Implements :class:`seesaw_worker.modes.mode.Mode`."""

    name = ModeName.ELASTIC.value
    progress = ""

    def __init__(
        self, args: Namespace, settings: WorkerSettings, defaults: Mapping[str, object]
    ) -> None:
        """Raises: InputError for flags and devices that do not go with the mode."""
        limits.refuse_flags(args, defaults)
        limits.refuse_devices(settings)
        self._args, self._settings = args, settings
        self._telemetry = Telemetry()
        self._config: VllmConfig | None = None
        self._folder: RunFolder | None = None
        self._polling: asyncio.Task[None] | None = None
        layout = Layout(tensor=settings.decode.tensor)
        self.summary = f"{settings.elastic_instances} elastic instances of layout {layout}"

    def register(self, registry: CollectorRegistry) -> None:
        self._telemetry.register(registry)

    def refresh(self) -> None:
        self._telemetry.refresh()

    async def prepare(self, hooks: Hooks) -> None:
        hooks.report("checking model, instances and memory")
        os.environ[_RUNNER_VARIABLE] = "0"  # the sampler's batch is that of vLLM's first runner
        config = elastic_config(AsyncEngineArgs.from_cli_args(self._args), self._settings)
        limits.refuse_models(config)
        preflight.check_tokenizer(config.model_config)
        limits.check_memory(config, self._settings)
        self._telemetry.token_bytes = limits.token_bytes(config) * self._settings.decode.tensor
        if current_platform.is_cpu() and self._settings.weights is WeightsMode.SHARED:
            self._folder = create_run_folder(self._settings.shm_dir)
            shares = dataclasses.replace(
                InstanceSettings.of(config.additional_config),
                weights_folder=str(self._folder.path),
            )
            config.additional_config = shares.added_to(config.additional_config)
        self._config = config

    async def start(self, hooks: Hooks) -> WatchedLLM:
        assert self._config is not None, "prepare comes first"
        client: WatchedLLM = await asyncio.to_thread(
            WatchedLLM.from_vllm_config,
            self._config,
            enable_log_requests=self._args.enable_log_requests,
            disable_log_stats=self._args.disable_log_stats,
        )
        self._polling = asyncio.create_task(self._telemetry.poll(client.engine_core, hooks))
        return client

    def state(self) -> ModeState:
        return self._telemetry.state()

    def close(self) -> None:
        if self._polling is not None:
            with contextlib.suppress(RuntimeError):  # the loop may have ended
                self._polling.get_loop().call_soon_threadsafe(self._polling.cancel)
        if self._folder is not None:
            self._folder.close()


def elastic_config(args: AsyncEngineArgs, settings: WorkerSettings) -> VllmConfig:
    """Return vLLM's configuration of the engine. Raises: InputError that names the flag."""
    number, tensor = settings.elastic_instances, settings.decode.tensor
    instances = InstanceSettings(
        num_instances=number,
        tensor=tensor,
        cores=divide_cores(number * tensor) if current_platform.is_cpu() else (),
        step_timeout_s=settings.elastic_timeout_s,
    )
    args = dataclasses.replace(
        with_layout(args, Layout(tensor=tensor)),
        enforce_eager=True,  # tasks differ too much in shape for graphs
        async_scheduling=False,
        additional_config=instances.added_to(args.additional_config or {}),
        scheduler_cls=f"{_PARTS}.scheduler.ElasticScheduler",
        worker_cls=f"{_PARTS}.worker.ElasticWorker",
    )
    if not current_platform.is_cpu():
        args.attention_backend = REPLACED
    args.distributed_executor_backend = f"{_PARTS}.executor.ElasticExecutor"
    return create_config(args, UsageContext.OPENAI_API_SERVER)
