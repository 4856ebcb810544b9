"""Seesaw's engine client: vLLM's ``AsyncLLM`` over two engines on the same devices."""

import asyncio
import os
import time
from typing import Any

from vllm.config import VllmConfig
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.core_client import AsyncMPClient, EngineCoreClient
from vllm.v1.executor import Executor

from seesaw_core.policies import Policy
from seesaw_core.resharding.decode_requests import DecodeRoom
from seesaw_core.resharding.driver import Driver, Rules
from seesaw_core.resharding.ledger import Ledger
from seesaw_core.resharding.policy import Step, View
from seesaw_worker.modes.client import WatchedLLM
from seesaw_worker.modes.plugin import SERVER_PID_VARIABLE, register
from seesaw_worker.modes.resharding.configs import EngineConfigs
from seesaw_worker.modes.resharding.controller import Controller, Observer
from seesaw_worker.modes.resharding.core_client import TwoEngineClient
from seesaw_worker.modes.resharding.death_watch import DeathCallback, DeathWatch, process_names
from seesaw_worker.modes.resharding.handover import Engines
from seesaw_worker.modes.resharding.kv.buffer import create_buffer
from seesaw_worker.modes.resharding.kv.checksums import create_sums
from seesaw_worker.modes.resharding.kv.transfer import parse_progress
from seesaw_worker.processes.control_page import ControlPage

_WARM_UP_TOKENS = 512
_LONGEST_LINE = 1 << 30  # a line names its request, and clients choose these names


class SeesawLLM(WatchedLLM):
    """An ``EngineClient`` over a prefill engine and a decode engine.

    Call order: :func:`start_llm` creates it; ``shutdown`` ends it.
    """

    cores: TwoEngineClient
    controller: Controller
    configs: EngineConfigs
    control: ControlPage
    _death: DeathWatch
    _loop: asyncio.AbstractEventLoop
    _tasks: list[asyncio.Task[None]]
    _progress_server: asyncio.AbstractServer

    def watch(
        self,
        progress: asyncio.AbstractServer,
        failed: asyncio.Future[None],
        on_death: DeathCallback,
    ) -> None:
        """Run the controller, and call ``on_death`` when it fails or a child process has ended.

        ``failed`` gets the error if a report of the decode engine cannot be applied to the ledger.
        """
        self._loop = asyncio.get_running_loop()
        self._progress_server = progress
        self._death = death = DeathWatch(self.cores, on_death)
        self._tasks = [
            asyncio.create_task(death.watch_process(pid, name))
            for pid, name in process_names().items()
        ]
        for work in (self.controller.run(), failed):
            self._tasks.append(asyncio.create_task(death.watch_work(work)))

    def watched_cores(self) -> dict[str, AsyncMPClient]:
        return {
            "the prefill engine": self.cores.prefill,
            "the decode engine": self.cores.decode,
        }

    def hand_over(self) -> int | None:
        return self.controller.transition_under_way

    def expected_step_s(self) -> float:
        costs = self.controller.driver.costs
        rates = (costs.prefill_tokens_per_s, costs.in_place_tokens_per_s)
        tokens: int = self.configs.decode.scheduler_config.max_num_batched_tokens
        return max((tokens / rate for rate in rates if rate), default=0.0)

    async def worker_facts(self) -> dict[str, list[dict[str, Any]]]:
        """Return ``seesaw_info`` of every rank, by engine."""
        return {
            "prefill": await self.cores.prefill.collective_rpc_async("seesaw_info"),
            "decode": await self.cores.decode.collective_rpc_async("seesaw_info"),
        }

    async def _add_request(self, request: EngineCoreRequest, *args: Any, **kwargs: Any) -> None:
        """Forget a request that cannot be sent, which vLLM would count as unfinished for ever."""
        try:
            await super()._add_request(request, *args, **kwargs)
        except BaseException:
            self.output_processor.abort_requests([request.request_id], internal=True)
            raise

    async def notify_kv_transfer_request_rejected(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: no other server keeps KV for the request, and an abort gives no output."""

    def shutdown(self, timeout: float | None = None) -> None:
        """End both engines. May be called from any thread. Later deaths are not reported."""
        if hasattr(self, "_death"):
            self._death.expect()
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stop_watching)
        super().shutdown(timeout=timeout)

    def _stop_watching(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._progress_server.close()


async def start_llm(
    configs: EngineConfigs,
    *,
    policy: Policy[View, Step],
    observer: Observer,
    on_death: DeathCallback,
    log_requests: bool = False,
    log_stats: bool = True,
) -> SeesawLLM:
    """Start both engines on the same devices, and the controller above them.

    ``on_death`` is called once, when a process of an engine has died or the controller has failed.
    Raises: CapacityError if shared memory runs out; vLLM's errors if an engine cannot start.
    """
    settings = configs.settings
    os.environ[SERVER_PID_VARIABLE] = str(os.getpid())
    register()
    create_buffer(settings.buffer_path, settings.num_buffer_blocks, settings.block_bytes)
    if settings.verify_kv:
        pages = settings.shape.num_layers * settings.shape.num_kv_heads
        create_sums(settings.sums_path, settings.num_buffer_blocks * pages)
    control = ControlPage.create(settings.folder, settings.decode.num_devices)
    controllers: asyncio.Future[Controller] = asyncio.get_running_loop().create_future()
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_unix_server(
        lambda reader, _: _follow_progress(reader, controllers, failed),
        settings.socket_path,
        limit=_LONGEST_LINE,
    )
    prefill, llm = await _start_engines(configs, log_requests=log_requests, log_stats=log_stats)
    decode = llm.engine_core
    assert isinstance(decode, AsyncMPClient)
    llm.cores = TwoEngineClient(prefill, decode)
    llm.configs, llm.control = configs, control
    llm.engine_core = llm.cores
    llm.controller = Controller(
        driver=_driver(configs, policy),
        engines=Engines(prefill=prefill, decode=decode),
        observer=observer,
    )
    llm.cores.controller = llm.controller
    controllers.set_result(llm.controller)
    await llm.reset_mm_cache()
    await llm.controller.prepare(_warm_up_tokens(configs))
    llm.watch(server, failed, on_death)
    return llm


async def _start_engines(
    configs: EngineConfigs, *, log_requests: bool, log_stats: bool
) -> tuple[AsyncMPClient, SeesawLLM]:
    """Start both engines at once: most of the time, their processes import vLLM."""

    def start_prefill() -> AsyncMPClient:
        config: VllmConfig = configs.prefill
        core = EngineCoreClient.make_async_mp_client(
            vllm_config=config, executor_class=Executor.get_class(config), log_stats=False
        )
        assert isinstance(core, AsyncMPClient)
        return core

    def start_decode() -> SeesawLLM:
        llm: SeesawLLM = SeesawLLM.from_vllm_config(
            configs.decode, enable_log_requests=log_requests, disable_log_stats=not log_stats
        )
        return llm

    prefill, decode = await asyncio.gather(
        asyncio.to_thread(start_prefill), asyncio.to_thread(start_decode)
    )
    return prefill, decode


def _driver(configs: EngineConfigs, policy: Policy[View, Step]) -> Driver:
    settings, scheduler = configs.settings, configs.decode.scheduler_config
    rules = Rules(
        policy=policy,
        decode_room=DecodeRoom.of(
            num_requests=scheduler.max_num_seqs, step_tokens=scheduler.max_num_batched_tokens
        ),
        by_priority=scheduler.policy == "priority",
    )
    ledger = Ledger(num_blocks=settings.num_buffer_blocks, block_size=settings.block_size)
    return Driver(rules, ledger, now_s=time.monotonic())


def _warm_up_tokens(configs: EngineConfigs) -> int:
    chunk: int = configs.prefill.scheduler_config.max_num_batched_tokens
    longest: int = configs.prefill.model_config.max_model_len
    return max(1, min(_WARM_UP_TOKENS, chunk, longest // 2))


async def _follow_progress(
    reader: asyncio.StreamReader,
    controllers: asyncio.Future[Controller],
    failed: asyncio.Future[None],
) -> None:
    """Pass the decode engine's reports to the controller.

    An error goes to ``failed``, since the ledger may be wrong after it.
    """
    controller = await asyncio.shield(controllers)
    try:
        while line := await reader.readline():
            controller.observe_progress(*parse_progress(line))
    except Exception as error:  # noqa: BLE001 - it ends the worker
        if not failed.done():
            failed.set_exception(error)
