"""Worker and simulator fold one driver: what either's was told gives the other's the same steps."""

import asyncio
import random

import pytest

from seesaw_core.resharding import events
from seesaw_core.resharding.policy import Admit, InPlace, Reshard, Switch, Wait
from seesaw_sim.systems.resharding import driver_of
from support.driver_log.recording import Recorder, tell_again
from support.fake_worker.cores import BLOCK, request_of, rules, running_worker

BUFFER_TOKENS = 12 * BLOCK


async def recorded(seed: int, reshard: Reshard, *, by_priority: bool) -> Recorder:
    """What a worker's driver was told and said while everything happened that can."""
    rng = random.Random(seed)
    async with running_worker(
        rng,
        reshard=reshard,
        rejects=0.05,
        raises=0.02,
        by_priority=by_priority,
        driver_type=Recorder,
    ) as worker:
        for index in range(60):
            length = rng.choice([1, BLOCK, BLOCK + 1, 70, 150, 400])
            for copy in range(rng.choice([1, 1, 3])):
                request = request_of(f"{copy}_{index}", [index] * length)
                request.priority = rng.randrange(3)
                await worker.submit(request)
            await asyncio.sleep(rng.random() * 0.004)
            if rng.random() < 0.3:
                await worker.controller.abort([f"0_{index}", f"2_{index}"])
            if index % 20 == 10:
                await worker.controller.pin_decode()
                await worker.controller.move_all_to_decode()
                worker.controller.unpin_decode()
        await worker.nothing_left()
    driver = worker.controller.driver
    assert isinstance(driver, Recorder)
    return driver


@pytest.mark.parametrize("by_priority", [False, True])
@pytest.mark.parametrize("reshard", list(Reshard))
def test_the_log_of_a_worker_gives_the_simulators_driver_the_same_steps(
    reshard: Reshard, by_priority: bool
) -> None:
    worker = asyncio.run(recorded(7, reshard, by_priority=by_priority))
    fresh = driver_of(rules(reshard, by_priority=by_priority), BUFFER_TOKENS)
    assert tell_again(worker.log, fresh) == worker.log
    kinds = {type(entry.event) for entry in worker.log}
    assert kinds >= {events.Arrived, events.SentInPlace, events.Ended, events.Aborted, events.Held}
    if reshard is Reshard.ALWAYS:
        assert {type(step) for step in worker.steps} == {Admit, Switch, Wait}
        assert kinds >= {events.Admitted, events.Stored, events.Loading, events.TransitionEnded}
    if reshard is Reshard.NEVER:
        assert {type(step) for step in worker.steps} == {InPlace, Wait}


def test_a_log_with_an_event_left_out_gives_other_steps() -> None:
    log = asyncio.run(recorded(7, Reshard.ALWAYS, by_priority=False)).log
    first = next(i for i, e in enumerate(log) if isinstance(e.event, events.Arrived))
    shortened = log[:first] + log[first + 1 :]
    fresh = driver_of(rules(Reshard.ALWAYS), BUFFER_TOKENS)
    assert tell_again(shortened, fresh) != shortened
