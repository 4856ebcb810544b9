"""The queue, where a client goes away at the worst moment."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from seesaw_core.routing.waves import Intake, Replica, WavePolicy
from seesaw_router.dispatch.dispatcher import Dispatcher
from seesaw_router.dispatch.parsed_request import ParsedRequest
from seesaw_router.metrics import Metrics


class Worker:
    """All workers there are: one, which serves or not."""

    def __init__(self) -> None:
        self.serves = False
        self.running: set[int] = set()

    def serving(self) -> list[Any]:
        return [self] if self.serves else []

    def trusted(self) -> list[Any]:
        return self.serving()

    def due_for_trial(self) -> None:
        return None

    def why_none_serves(self) -> str:
        return "a: it does not"

    def named(self, _name: str) -> Any:
        return self

    def replica(self) -> Replica:
        return Replica(
            name="a",
            num_running=len(self.running),
            accepts=Intake.WAVES,
            room_tokens=100,
            capacity_tokens=100,
        )

    def sent(self, number: int, tokens: int) -> None:
        self.running.add(number)

    def ended(self, number: int) -> None:
        self.running.discard(number)


async def test_a_client_that_goes_just_as_its_turn_comes_harms_nobody() -> None:
    worker: Any = Worker()
    dispatcher = Dispatcher(
        policy=WavePolicy(),
        backends=lambda: worker,
        max_queued=10,
        max_unserved_s=60.0,
        metrics=Metrics(CollectorRegistry()),
    )

    async def ask() -> None:
        with await dispatcher.place(ParsedRequest(tokens=10), frozenset()):
            await asyncio.sleep(0)

    running = asyncio.create_task(dispatcher.run())
    gone, stays = asyncio.create_task(ask()), asyncio.create_task(ask())
    while len(dispatcher) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    worker.serves = True
    dispatcher.kick()  # the dispatcher runs before the task that is cancelled after this
    gone.cancel()
    await asyncio.wait_for(stays, 5)
    assert not running.done()
    assert (len(dispatcher), worker.running) == (0, set())
    running.cancel()


class OddOnce(Worker):
    """Raises where nothing should, the first time."""

    def replica(self) -> Replica:
        if not self.running and not self.serves_again:
            self.serves_again = True
            raise KeyError("phase")
        return super().replica()

    serves_again = False


async def test_a_step_that_fails_does_not_end_the_dispatcher() -> None:
    worker: Any = OddOnce()
    worker.serves = True
    dispatcher = Dispatcher(
        policy=WavePolicy(),
        backends=lambda: worker,
        max_queued=10,
        max_unserved_s=60.0,
        metrics=Metrics(CollectorRegistry()),
    )
    running = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(5):
        with await dispatcher.place(ParsedRequest(tokens=10), frozenset()) as placed:
            assert placed.backend is worker
    assert not running.done()
    running.cancel()
