"""The re-sharding mode: two engines on the same devices, and weights and KV moved between them."""

import asyncio
from argparse import Namespace

from prometheus_client import CollectorRegistry
from vllm.engine.arg_utils import AsyncEngineArgs

from seesaw_core.messages import ModeName
from seesaw_worker.modes import preflight
from seesaw_worker.modes.mode import Hooks, ModeState
from seesaw_worker.modes.resharding import configs, sizes
from seesaw_worker.modes.resharding.llm import SeesawLLM, start_llm
from seesaw_worker.modes.resharding.progress import LoadingProgress
from seesaw_worker.modes.resharding.telemetry import Telemetry
from seesaw_worker.processes.run_folder import create_run_folder
from seesaw_worker.processes.shm import IN_MEMORY, RunFolder, file_system
from seesaw_worker.settings.engine import WeightsMode
from seesaw_worker.settings.worker import WorkerSettings


class ReshardingMode:
    """Implements :class:`seesaw_worker.modes.mode.Mode`."""

    name = ModeName.RESHARDING.value

    def __init__(self, args: Namespace, settings: WorkerSettings) -> None:
        self._args = args
        self._settings = settings
        self._telemetry = Telemetry(settings)
        self._folder: RunFolder | None = None
        self._configs: configs.EngineConfigs | None = None
        self._progress: LoadingProgress | None = None
        self.summary = f"two engines, prefill {settings.prefill}, decode {settings.decode}"

    @property
    def progress(self) -> str:
        return "" if self._progress is None else str(self._progress)

    def register(self, registry: CollectorRegistry) -> None:
        self._telemetry.register(registry)

    def refresh(self) -> None:
        self._telemetry.refresh()

    async def prepare(self, hooks: Hooks) -> None:
        """Run all checks, the cheapest first. A model from a hub is downloaded."""
        model, is_shared = self._args.model, self._settings.weights is WeightsMode.SHARED
        if is_shared and not preflight.is_local(model):
            hooks.report(f"downloading {model} unless it is cached")
            await asyncio.to_thread(preflight.checkpoint_tensors, model)
        engine_args = AsyncEngineArgs.from_cli_args(self._args)
        hooks.report("checking model, layouts and memory")
        tensors = preflight.checkpoint_tensors(model) if is_shared else ()
        probed = configs.probe(engine_args)
        preflight.check_tokenizer(probed.model_config)
        shape = sizes.shape_of(probed)
        kind = file_system(self._settings.shm_dir)
        if kind not in IN_MEMORY:
            hooks.report(
                f"warning: --shm-dir={self._settings.shm_dir} is on {kind or 'a disk'}, not in "
                "memory: re-sharding will be slow; mount a tmpfs or memory-backed emptyDir there"
            )
        self._folder = create_run_folder(self._settings.shm_dir)
        self._configs = configs.engine_configs(
            engine_args, self._settings, folder=self._folder.path, shape=shape, tensors=tensors
        )

    async def start(self, hooks: Hooks) -> SeesawLLM:
        assert self._configs is not None, "prepare comes first"
        self._progress = LoadingProgress(self._configs.settings)
        self._telemetry.publish_to(hooks.publish)
        llm = await start_llm(
            self._configs,
            policy=self._settings.policy,
            observer=self._telemetry,
            on_death=hooks.on_death,
            log_requests=self._args.enable_log_requests,
            log_stats=not self._args.disable_log_stats,
        )
        self._telemetry.attach(llm.controller, self._configs.settings)
        return llm

    def state(self) -> ModeState:
        return self._telemetry.state()

    def close(self) -> None:
        if self._folder is not None:
            self._folder.close()
