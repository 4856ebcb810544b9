"""The static mode: plain vLLM under one layout, for ``--reshard never``."""

import asyncio
import dataclasses
import os
import re
from argparse import Namespace

from prometheus_client import CollectorRegistry
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext

from seesaw_core.layouts import Layout
from seesaw_core.messages import ModeName, StaticState
from seesaw_worker.modes.client import WatchedLLM
from seesaw_worker.modes.mode import Hooks, ModeState
from seesaw_worker.modes.vllm_config import create_config, with_layout
from seesaw_worker.processes.forking import BIND_VARIABLE, divide_cores
from seesaw_worker.processes.run_folder import WorkerFiles

_RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_CPU_WORKER = "seesaw_worker.modes.static.cpu_worker.PlainCpuWorker"


class StaticMode:
    """Implements :class:`seesaw_worker.modes.mode.Mode` with one engine of plain vLLM."""

    name = ModeName.STATIC.value
    progress = ""

    def __init__(self, args: Namespace, layout: Layout) -> None:
        self._args = args
        self._layout = layout
        self.summary = f"plain vLLM in layout {layout}"

    def register(self, registry: CollectorRegistry) -> None:
        """Register nothing: this mode has no metrics beside vLLM's."""

    def refresh(self) -> None:
        """Do nothing: vLLM updates its own metrics."""

    async def prepare(self, hooks: Hooks) -> None:
        """Check nothing: vLLM runs its checks when it starts."""

    async def start(self, hooks: Hooks) -> WatchedLLM:
        args = self._args
        config = plain_config(AsyncEngineArgs.from_cli_args(args), self._layout)
        client: WatchedLLM = await asyncio.to_thread(
            WatchedLLM.from_vllm_config,
            config,
            enable_log_requests=args.enable_log_requests,
            disable_log_stats=args.disable_log_stats,
            aggregate_engine_logging=args.aggregate_engine_logging,
        )
        return client

    def state(self) -> ModeState:
        return ModeState(part=StaticState(layout=str(self._layout)))

    def close(self) -> None:
        """Remove nothing: this mode leaves no files."""


def plain_config(args: AsyncEngineArgs, layout: Layout) -> VllmConfig:
    """Return the configuration of plain vLLM in a layout."""
    if current_platform.is_cpu():
        os.environ[BIND_VARIABLE] = "|".join(divide_cores(layout.num_devices))
        if layout.num_devices > 1 and args.worker_cls == "auto":
            args = dataclasses.replace(args, worker_cls=_CPU_WORKER)
    config = create_config(with_layout(args, layout), UsageContext.OPENAI_API_SERVER)
    files = WorkerFiles.current()
    for transfer in (config.kv_transfer_config, config.ec_transfer_config):
        if files is not None and transfer is not None and _RANDOM_ID(transfer.engine_id):
            transfer.engine_id = (
                f"{files.tag}{transfer.engine_id}"  # it is part of the names of shared memory
            )
    return config
