"""Stand-ins for vLLM's engine cores below a real controller.

They behave like real engine cores, which tests/integration/worker/test_live.py checks on real vLLM:
a paused core computes nothing, an abort gives no output, and the decode engine releases the buffer
entry of each request exactly once.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from vllm import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason

from seesaw_core.resharding.decode_requests import DecodeRoom
from seesaw_core.resharding.driver import Driver, Rules
from seesaw_core.resharding.ledger import Ledger
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_worker.modes.resharding.controller import Controller
from seesaw_worker.modes.resharding.core_client import TwoEngineClient
from seesaw_worker.modes.resharding.handover import Engines
from seesaw_worker.modes.resharding.kv.transfer import BufferTicket, Progress

BLOCK = 16


class Devices:
    """The devices, which one engine core owns at a time, as in the control page."""

    owner: "StandInCore | None" = None


class StandInCore:
    """An engine core that takes one scheduler step per request and can be paused.

    It handles its calls in order, and an acquire waits for the devices.
    """

    def __init__(
        self,
        rng: random.Random,
        devices: Devices,
        *,
        is_prefill: bool,
        rejects: float = 0.0,
        raises: float = 0.0,
    ) -> None:
        self._devices = devices
        self._calls = asyncio.Lock()
        self._rng, self._is_prefill = rng, is_prefill
        self._rejects, self._raises = rejects, raises
        self.controller: Controller | None = None
        self.requests: dict[str, EngineCoreRequest] = {}
        self.seen: list[str] = []
        self._loading: set[str] = set()
        self.outputs_queue: asyncio.Queue[EngineCoreOutputs] = asyncio.Queue()
        self._running = asyncio.Event()
        self._running.set()
        self._step_done = asyncio.Event()
        self._step_done.set()

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        if self._rng.random() < self._raises:
            raise RuntimeError(f"{request.request_id} cannot be sent")
        self.seen.append(request.request_id)
        if not self._is_prefill and self._rng.random() < self._rejects:
            # as the core does before its scheduler has seen the request: no release follows
            self._finish(request, FinishReason.ERROR)
            return
        self.requests[request.request_id] = request
        if self._rng.random() < self._raises:
            raise RuntimeError(f"{request.request_id} was sent, but who knows")

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        if self._rng.random() < self._raises:
            raise RuntimeError(f"{request_ids} cannot be sent")
        for request_id in request_ids:
            request = self.requests.pop(request_id, None)
            if request is not None:
                self._release(request)

    async def get_output_async(self) -> EngineCoreOutputs:
        return await self.outputs_queue.get()

    async def pause_scheduler_async(self, mode: Any, clear_cache: bool) -> None:
        self._running.clear()
        await self._step_done.wait()
        if self._devices.owner is self:
            self._devices.owner = None

    async def resume_scheduler_async(self) -> None:
        async with self._calls:
            self._running.set()

    async def collective_rpc_async(self, method: str) -> Any:
        async with self._calls:
            while self._devices.owner not in (None, self):
                await asyncio.sleep(0.0005)
            self._devices.owner = self
            return [(1, 0.001)]

    async def reset_prefix_cache_async(self, running: bool, connector: bool) -> bool:
        return True

    async def run(self) -> None:
        while True:
            await self._running.wait()
            self._step_done.clear()
            await asyncio.sleep(self._rng.random() * 0.002)
            for request_id, request in list(self.requests.items()):
                assert self._devices.owner is self, "a step on devices that are not its own"
                if self._rng.random() < 0.5:
                    continue
                if not self._is_prefill and request_id not in self._loading:
                    self._loading.add(request_id)
                    self._tell(Progress.LOADING, request)
                    continue
                if self.requests.pop(request_id, None) is None:
                    continue
                self._release(request)
                failed = self._rng.random() < self._rejects
                self._finish(request, FinishReason.ERROR if failed else FinishReason.LENGTH)
            self._step_done.set()
            await asyncio.sleep(0)

    def _finish(self, request: EngineCoreRequest, reason: FinishReason) -> None:
        output = EngineCoreOutput(request.request_id, [1], finish_reason=reason)
        self.outputs_queue.put_nowait(EngineCoreOutputs(outputs=[output]))

    def _release(self, request: EngineCoreRequest) -> None:
        if not self._is_prefill:
            self._loading.discard(request.request_id)
            self._tell(Progress.RELEASED, request)

    def _tell(self, progress: Progress, request: EngineCoreRequest) -> None:
        params = request.sampling_params
        extra = (params.extra_args or {}) if params else {}
        ticket = BufferTicket.of(extra.get("kv_transfer_params"))
        if ticket is not None and self.controller is not None:
            self.controller.observe_progress(progress, ticket.key, request.request_id)


class Deaf:
    def transition_done(self, event: Any) -> None: ...
    def wave_done(self, event: Any) -> None: ...


def request_of(request_id: str, prompt: list[int], **params: Any) -> EngineCoreRequest:
    return EngineCoreRequest(
        request_id=request_id,
        prompt_token_ids=prompt,
        mm_features=None,
        sampling_params=SamplingParams(max_tokens=4, **params),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )


@dataclass
class Worker:
    """A controller on two stand-ins, and the end of each request as the front end sees it."""

    controller: Controller
    prefill: StandInCore
    decode: StandInCore
    ended: dict[str, FinishReason | Exception] = field(default_factory=dict)

    async def submit(self, request: EngineCoreRequest) -> None:
        """Submit a request as vLLM's front end does. An error ends the request."""
        try:
            await self.controller.submit(request)
        except Exception as error:  # noqa: BLE001 - it ends the request
            self.ended[request.request_id] = error

    async def read_outputs(self) -> None:
        client: Any = TwoEngineClient(self.prefill, self.decode)
        client.controller = self.controller
        while True:
            for output in (await client.get_output_async()).outputs:
                if output.finish_reason is not None:
                    self.ended.setdefault(output.request_id, output.finish_reason)

    async def nothing_left(self) -> None:
        """Wait until no request is left and every block is free."""
        async with asyncio.timeout(20):
            await self.controller.drained()
            while len(self.controller.driver.ledger):
                await asyncio.sleep(0.001)
        driver = self.controller.driver
        totals, view = driver.ledger.totals(), driver.view(0.0)
        assert totals.free == totals.capacity
        assert (view.num_decoding, view.num_prefilling, view.waiting) == (0, 0, ())
        assert (view.oldest_wait_s, view.decode_has_room, driver.num_entries) == (0.0, True, 0)
        assert not self.controller._paths._requests, "a request is kept that nobody knows"


def rules(reshard: Reshard, *, by_priority: bool = False) -> Rules:
    """Return the rules of a worker with phases as short as the stand-ins' steps."""
    return Rules(
        policy=PhasePolicy(reshard=reshard, flush_timeout_s=0.02, dwell_transitions=1),
        decode_room=DecodeRoom(num_requests=4, num_queued_tokens=200),
        by_priority=by_priority,
    )


def buffer() -> Ledger:
    """Return the ledger of a small KV buffer."""
    return Ledger(num_blocks=12, block_size=BLOCK)


@asynccontextmanager
async def running_worker(
    rng: random.Random,
    *,
    reshard: Reshard = Reshard.ALWAYS,
    rejects: float = 0.0,
    raises: float = 0.0,
    by_priority: bool = False,
    driver_type: type[Driver] = Driver,
) -> AsyncIterator[Worker]:
    """Run a worker of stand-ins until the context ends."""
    devices = Devices()
    prefill, decode = (
        StandInCore(rng, devices, is_prefill=p, rejects=rejects, raises=raises)
        for p in (True, False)
    )
    devices.owner = decode
    controller = Controller(
        driver=driver_type(
            rules(reshard, by_priority=by_priority), buffer(), now_s=time.monotonic()
        ),
        engines=Engines(prefill=prefill, decode=decode),
        observer=Deaf(),
    )
    prefill.controller = decode.controller = controller
    worker = Worker(controller, prefill, decode)
    await prefill.pause_scheduler_async("keep", False)
    async with asyncio.TaskGroup() as tasks:
        works = (prefill.run(), decode.run(), controller.run(), worker.read_outputs())
        running = [tasks.create_task(work) for work in works]
        yield worker
        for task in running:
            task.cancel()
