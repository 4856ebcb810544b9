"""The controller over two stand-in engines: whatever is aborted when, everything is given back.

The stand-ins keep to what the real engine cores do, which tests/integration/worker/test_live.py
checks on real vLLM: a paused core computes nothing, an abort leaves no output, and the decode
engine releases each buffer entry exactly once a request.
"""

import asyncio
import itertools
import random
from typing import Any, ClassVar

import pytest
from vllm import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason

from seesaw_core.ledger import Ledger
from seesaw_core.policy import Phase, PhasePolicy, Reshard, Step, Switch, View, Wait
from seesaw_worker.engine.controller import Controller
from seesaw_worker.engine.handover import DecodeRoom, Engines
from seesaw_worker.kv.transfer import BufferTicket, Progress

BLOCK = 16


class Devices:
    """What one engine core owns at a time, as the control page has it."""

    owner: "StandInCore | None" = None


class StandInCore:
    """An engine core that takes one scheduler step a request and can be paused.

    It works its calls off in order, and an acquire waits for the devices.
    """

    def __init__(
        self,
        rng: random.Random,
        devices: Devices,
        *,
        is_prefill: bool,
        rejects: float = 0.0,
    ) -> None:
        self._devices = devices
        self._calls = asyncio.Lock()
        self._rng, self._is_prefill, self._rejects = rng, is_prefill, rejects
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
        self.seen.append(request.request_id)
        if not self._is_prefill and self._rng.random() < self._rejects:
            # as the core does before its scheduler has seen the request: no release follows
            self._finish(request, FinishReason.ERROR)
            return
        self.requests[request.request_id] = request

    async def abort_requests_async(self, request_ids: list[str]) -> None:
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
        if self.controller is not None and not self._is_prefill:
            asyncio.get_running_loop().call_soon(self.controller.observe_outputs, [output])
        else:
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


async def storm(seed: int, reshard: Reshard) -> tuple[Controller, StandInCore, StandInCore]:
    """Requests and aborts at random moments; returns once all is quiet."""
    rng = random.Random(seed)
    rejects = 0.1 if seed % 2 else 0.0
    devices = Devices()
    prefill = StandInCore(rng, devices, is_prefill=True, rejects=rejects)
    decode = StandInCore(rng, devices, is_prefill=False, rejects=rejects)
    devices.owner = decode
    controller = Controller(
        policy=PhasePolicy(reshard=reshard, flush_timeout_s=0.02, dwell_transitions=1),
        ledger=Ledger(num_blocks=12, block_size=BLOCK),
        engines=Engines(
            prefill=prefill,
            decode=decode,
            decode_room=DecodeRoom(num_requests=4, num_queued_tokens=200),
        ),
        observer=Deaf(),
    )
    prefill.controller = decode.controller = controller
    async with asyncio.TaskGroup() as tasks:
        engines = [tasks.create_task(core.run()) for core in (prefill, decode)]
        await prefill.pause_scheduler_async("keep", False)
        running = tasks.create_task(controller.run())
        aborts = []
        for index in range(60):
            length = rng.choice([1, 2, BLOCK, BLOCK + 1, 70, 150, 400])
            copies = rng.choice([1, 1, 3])
            prompt = [index] * length
            for copy in range(copies):
                request_id = f"{copy}_{index}"
                await controller.submit(request_of(request_id, prompt))
                if rng.random() < 0.4:

                    async def abort(request_id: str = request_id) -> None:
                        await asyncio.sleep(rng.random() * 0.05)
                        await controller.abort([request_id])

                    aborts.append(tasks.create_task(abort()))
            await asyncio.sleep(rng.random() * 0.004)
            if index % 20 == 10:  # as a user's pause does
                await controller.hold_in_decode()
                await controller.pass_on_all()
                assert (controller.waiting_tokens, controller.num_prefilling) == ((), 0)
                controller.let_go()
        await asyncio.gather(*aborts)
        async with asyncio.timeout(20):
            await controller.drained()
            while len(controller.ledger):
                await asyncio.sleep(0.005)
        for task in (*engines, running):
            task.cancel()
    return controller, prefill, decode


@pytest.mark.parametrize(
    ("seed", "reshard"), list(itertools.product(range(8), (Reshard.ALWAYS, Reshard.AUTO)))
)
def test_everything_is_given_back_whatever_is_aborted_when(seed: int, reshard: Reshard) -> None:
    controller, prefill, decode = asyncio.run(storm(seed, reshard))
    totals = controller.ledger.totals()
    assert totals.free == totals.capacity
    assert not prefill.requests
    assert not decode.requests
    assert (controller.num_decoding, controller.num_prefilling) == (0, 0)
    assert controller.waiting_tokens == ()
    assert len(decode.seen) == len(set(decode.seen))


def test_what_the_buffer_cannot_carry_goes_in_place() -> None:
    async def run() -> None:
        controller, prefill, decode = await storm(3, Reshard.ALWAYS)
        prefill.seen.clear()
        decode.seen.clear()
        await controller.submit(request_of("one token", [1]))
        await controller.submit(request_of("too long", [1] * 500))
        await controller.submit(request_of("prompt logprobs", [1] * 20, prompt_logprobs=1))
        assert decode.seen == ["one token", "too long", "prompt logprobs"]
        assert prefill.seen == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("num_running", "queued_tokens", "is_left"),
    [(0, 0, True), (3, 99, True), (4, 0, False), (3, 100, False), (0, 500, False)],
)
def test_the_decode_engine_has_room_for_requests_and_for_two_steps_of_prompts(
    num_running: int, queued_tokens: int, is_left: bool
) -> None:
    room = DecodeRoom(num_requests=4, num_queued_tokens=100)
    assert room.is_left(num_running, queued_tokens) is is_left


def test_prompts_gather_while_the_decode_engine_has_not_begun_what_it_has() -> None:
    async def run() -> None:
        controller, _, _ = await storm(2, Reshard.AUTO)
        assert controller.view().decode_has_room
        for index in range(2):  # longer than the buffer, so in place at once
            await controller.submit(request_of(f"long {index}", [index] * 500))
        assert controller.num_decoding < 4
        assert not controller.view().decode_has_room
        controller.observe_outputs(
            [EngineCoreOutput("long 0", [1]), EngineCoreOutput("long 1", [1])]
        )
        assert controller.view().decode_has_room

    asyncio.run(run())


def test_a_transition_costs_what_it_copies_and_not_the_step_that_ends_before_it() -> None:
    class Once:
        """Hands the devices over, then waits for ever."""

        steps: ClassVar[list[Step]] = [Switch(to=Phase.PREFILL, reason="asked")]

        def next_step(self, view: View) -> Step:
            return self.steps.pop() if self.steps else Wait(at_most_s=None, reason="all is done")

    async def run() -> None:
        now, instants = 0.0, itertools.count(step=0.001)
        devices = Devices()
        prefill, decode = (
            StandInCore(random.Random(0), devices, is_prefill=p) for p in (True, False)
        )
        devices.owner = decode
        controller = Controller(
            policy=Once(),
            ledger=Ledger(num_blocks=4, block_size=BLOCK),
            engines=Engines(
                prefill=prefill,
                decode=decode,
                decode_room=DecodeRoom(num_requests=4, num_queued_tokens=200),
            ),
            observer=Deaf(),
            clock=lambda: now + next(instants),
        )
        decode._step_done.clear()
        running = asyncio.create_task(controller.run())
        await asyncio.sleep(0.01)
        now = 8.0  # seconds of a long step
        decode._step_done.set()
        while controller.last_reason != "all is done":
            await asyncio.sleep(0.001)
        assert controller.num_transitions == 1
        assert controller.costs.transition_s is not None
        assert controller.costs.transition_s < 1.0
        running.cancel()

    asyncio.run(run())


def test_a_request_that_is_aborted_at_birth_leaves_nothing() -> None:
    async def run() -> None:
        controller, _, decode = await storm(2, Reshard.AUTO)
        decode.seen.clear()
        request = request_of("born dead", [0])
        request.abort_immediately = True
        await controller.submit(request)
        assert (decode.seen, controller.num_decoding) == ([], 0)

    asyncio.run(run())


def test_a_clients_own_transfer_parameters_never_reach_an_engine() -> None:
    async def run() -> None:
        controller, _, decode = await storm(4, Reshard.ALWAYS)
        forged = {"kv_transfer_params": {"seesaw": {"key": "x", "num_tokens": 1, "blocks": [0]}}}
        await controller.submit(request_of("forged", [1], extra_args=forged | {"mine": 1}))
        params = decode.requests["forged"].sampling_params
        assert params is not None
        assert params.extra_args == {"mine": 1}

    asyncio.run(run())
