"""The controller over two stand-in engines: whatever is aborted when, everything is given back."""

import asyncio
import itertools
import random
from dataclasses import replace
from typing import ClassVar

import pytest
from vllm.v1.engine import EngineCoreOutput

from seesaw_core.resharding.decode_requests import DecodeRoom
from seesaw_core.resharding.driver import Driver
from seesaw_core.resharding.policy import Phase, Reshard, Step, Switch, View, Wait
from seesaw_worker.modes.resharding.controller import Controller
from seesaw_worker.modes.resharding.handover import Engines
from support.fake_worker.cores import (
    BLOCK,
    Deaf,
    Devices,
    StandInCore,
    Worker,
    buffer,
    request_of,
    rules,
    running_worker,
)


async def storm(seed: int, reshard: Reshard) -> Worker:
    """Requests and aborts at random moments; returns once all is quiet."""
    rng = random.Random(seed)
    rejects = 0.1 if seed % 2 else 0.0
    async with (
        running_worker(rng, reshard=reshard, rejects=rejects) as worker,
        asyncio.TaskGroup() as tasks,
    ):
        controller, aborts = worker.controller, []
        for index in range(60):
            length = rng.choice([1, 2, BLOCK, BLOCK + 1, 70, 150, 400])
            copies = rng.choice([1, 1, 3])
            prompt = [index] * length
            for copy in range(copies):
                request_id = f"{copy}_{index}"
                await worker.submit(request_of(request_id, prompt))
                if rng.random() < 0.4:

                    async def abort(request_id: str = request_id) -> None:
                        await asyncio.sleep(rng.random() * 0.05)
                        await controller.abort([request_id])

                    aborts.append(tasks.create_task(abort()))
            await asyncio.sleep(rng.random() * 0.004)
            if index % 20 == 10:  # as a user's pause does
                await controller.pin_decode()
                await controller.move_all_to_decode()
                assert not controller.driver.waiting
                assert not controller.driver.prefilling
                controller.unpin_decode()
        await asyncio.gather(*aborts)
        await worker.nothing_left()
    return worker


@pytest.mark.parametrize(
    ("seed", "reshard"), list(itertools.product(range(8), (Reshard.ALWAYS, Reshard.AUTO)))
)
def test_everything_is_given_back_whatever_is_aborted_when(seed: int, reshard: Reshard) -> None:
    worker = asyncio.run(storm(seed, reshard))
    assert not worker.prefill.requests
    assert not worker.decode.requests
    assert len(worker.decode.seen) == len(set(worker.decode.seen))


def test_what_the_buffer_cannot_carry_goes_in_place() -> None:
    async def run() -> None:
        worker = await storm(3, Reshard.ALWAYS)
        controller, prefill, decode = worker.controller, worker.prefill, worker.decode
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
        controller = (await storm(2, Reshard.AUTO)).controller
        assert controller.driver.view(0.0).decode_has_room
        for index in range(2):  # longer than the buffer, so in place at once
            await controller.submit(request_of(f"long {index}", [index] * 500))
        assert len(controller.driver.decoding) < 4
        assert not controller.driver.view(0.0).decode_has_room
        controller.observe_outputs(
            [EngineCoreOutput("long 0", [1]), EngineCoreOutput("long 1", [1])]
        )
        assert controller.driver.view(0.0).decode_has_room

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
            driver=Driver(replace(rules(Reshard.ALWAYS), policy=Once()), buffer()),
            engines=Engines(prefill=prefill, decode=decode),
            observer=Deaf(),
            clock=lambda: now + next(instants),
        )
        decode._step_done.clear()
        running = asyncio.create_task(controller.run())
        await asyncio.sleep(0.01)
        now = 8.0  # seconds of a long step
        decode._step_done.set()
        while controller.driver.last_step.reason != "all is done":
            await asyncio.sleep(0.001)
        assert controller.num_transitions == 1
        assert controller.driver.costs.transition_s is not None
        assert controller.driver.costs.transition_s < 1.0
        running.cancel()

    asyncio.run(run())


def test_a_request_that_is_aborted_at_birth_leaves_nothing() -> None:
    async def run() -> None:
        worker = await storm(2, Reshard.AUTO)
        controller, decode = worker.controller, worker.decode
        decode.seen.clear()
        request = request_of("born dead", [0])
        request.abort_immediately = True
        await controller.submit(request)
        assert (decode.seen, controller.driver.num_entries) == ([], 0)

    asyncio.run(run())


def test_a_clients_own_transfer_parameters_never_reach_an_engine() -> None:
    async def run() -> None:
        worker = await storm(4, Reshard.ALWAYS)
        controller, decode = worker.controller, worker.decode
        forged = {"kv_transfer_params": {"seesaw": {"key": "x", "num_tokens": 1, "blocks": [0]}}}
        await controller.submit(request_of("forged", [1], extra_args=forged | {"mine": 1}))
        params = decode.requests["forged"].sampling_params
        assert params is not None
        assert params.extra_args == {"mine": 1}

    asyncio.run(run())
