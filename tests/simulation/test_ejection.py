"""One worker that fails at once among others that answer, in virtual time.

The dispatcher, the wave policy and the book of answers are the router's own; a worker is a
latency and a status. Times in virtual seconds.
"""

import asyncio
import random
import selectors
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from seesaw_core.routing.ejection import EjectionPolicy, Outcome, Standing, outcome_of
from seesaw_core.routing.waves import WavePolicy
from seesaw_router.dispatch.backend import Backend, Target
from seesaw_router.dispatch.backends import Backends
from seesaw_router.dispatch.dispatcher import Dispatcher
from seesaw_router.dispatch.parsed_request import ParsedRequest
from seesaw_router.metrics import Metrics

BREAKS_OFF = 0  # 200, and then no end of its body


class _NoWaiting(selectors.DefaultSelector):
    """Moves the loop's clock instead of waiting."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.now_s += timeout
        return ready


def in_virtual_time(main: Callable[[Callable[[], float]], Awaitable[None]]) -> None:
    selector = _NoWaiting()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now_s  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:

        async def body() -> None:
            await main(loop.time)

        runner.run(body())


@dataclass(kw_only=True)
class Fleet:
    """Workers behind a dispatcher. ``status`` of each may change at any time."""

    now: Callable[[], float]
    status: dict[str, int]
    good_s: float = 0.5
    bad_s: float = 0.001
    policy: WavePolicy = field(default_factory=WavePolicy)
    ended: list[tuple[float, str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        unused: Any = None
        self.dispatcher = Dispatcher(
            policy=self.policy,
            backends=lambda: self.backends,
            max_queued=10_000,
            max_unserved_s=60.0,
            metrics=Metrics(CollectorRegistry()),
            clock=self.now,
        )
        self.backends = Backends(
            unused,
            follow=lambda backend: asyncio.create_task(self._follow(backend)),
            on_change=self.dispatcher.kick,
            ejection=EjectionPolicy(),
            clock=self.now,
        )
        self.backends.set_targets([Target(name=n, url=f"http://{n}") for n in self.status])

    async def _follow(self, backend: Backend) -> None:
        while True:
            backend.mark_static()
            await asyncio.sleep(1.0)

    async def _request(self, *, is_retry: bool = False) -> None:
        avoid = frozenset({"-"}) if is_retry else frozenset()
        with await self.dispatcher.place(ParsedRequest(tokens=100), avoid) as placed:
            name = placed.backend.target.name
            status = self.status[name]
            is_good = status == 200
            await asyncio.sleep(self.good_s if is_good or status == BREAKS_OFF else self.bad_s)
            outcome = Outcome.FAILED if status == BREAKS_OFF else outcome_of(status)
            self.backends.observe(placed.backend, outcome, self.good_s)
            if is_good or not placed.is_trial:
                self.ended.append((self.now(), name, status))
                return
        await self._request(is_retry=True)  # as the router does with a request that tried one

    async def serve(self, per_s: float, for_s: float) -> list[tuple[float, str, int]]:
        """Requests at an even rate. Returns those that ended meanwhile."""
        running = asyncio.create_task(self.dispatcher.run())
        before, until_s = len(self.ended), self.now() + for_s
        async with asyncio.TaskGroup() as group:
            while self.now() < until_s:
                group.create_task(self._request())
                await asyncio.sleep(1 / per_s)
        running.cancel()
        return self.ended[before:]


def share_of(ended: list[tuple[float, str, int]], status: int) -> float:
    return sum(s == status for _, _, s in ended) / len(ended)


@pytest.mark.parametrize("stagger", [True, False])
@pytest.mark.parametrize("per_s", [10, 40])
def test_a_full_worker_that_declines_at_once_gets_no_more_than_its_share(
    per_s: int, stagger: bool
) -> None:
    async def main(now: Callable[[], float]) -> None:
        workers = {"a": 429, "b": 200, "c": 200, "d": 200}
        fleet = Fleet(now=now, status=workers, policy=WavePolicy(stagger=stagger))
        assert share_of(await fleet.serve(per_s, 60), 429) < 0.27

    in_virtual_time(main)


@pytest.mark.parametrize("stagger", [True, False])
@pytest.mark.parametrize("per_s", [1, 10, 40])
@pytest.mark.parametrize("status", [500, 404, BREAKS_OFF])
def test_a_worker_that_fails_at_once_gets_next_to_nothing(
    status: int, per_s: int, stagger: bool
) -> None:
    async def main(now: Callable[[], float]) -> None:
        workers = {"a": status, "b": 200, "c": 200, "d": 200}
        fleet = Fleet(now=now, status=workers, policy=WavePolicy(stagger=stagger))
        first = await fleet.serve(per_s, 10 if per_s > 1 else 60)
        assert share_of(first, status) < 0.25
        assert share_of(await fleet.serve(per_s, 120), status) < 0.01

    in_virtual_time(main)


def test_a_worker_that_is_mended_has_its_share_back_within_a_minute() -> None:
    async def main(now: Callable[[], float]) -> None:
        fleet = Fleet(now=now, status={"a": 500, "b": 200, "c": 200, "d": 200})
        await fleet.serve(40, 120)
        fleet.status["a"] = 200
        back = await fleet.serve(40, 60)
        names = Counter(name for at_s, name, _ in back if at_s > now() - 15)
        assert names["a"] > 0.2 * names.total()
        assert fleet.backends.standing(fleet.backends.named("a")) is Standing.FULL

    in_virtual_time(main)


@pytest.mark.parametrize("status", [500, 404])
def test_where_all_fail_alike_all_still_serve(status: int) -> None:
    async def main(now: Callable[[], float]) -> None:
        fleet = Fleet(now=now, status=dict.fromkeys("abcd", status))
        ended = await fleet.serve(20, 30)
        assert len({name for at_s, name, _ in ended if at_s > now() - 5}) >= 2
        fleet.status = dict.fromkeys("abcd", 200)
        assert share_of(await fleet.serve(20, 30), 200) > 0.99

    in_virtual_time(main)


def test_what_clients_cause_takes_no_worker_out() -> None:
    async def main(now: Callable[[], float]) -> None:
        fleet = Fleet(now=now, status=dict.fromkeys("abcd", 200))
        draw = random.Random(1)
        for _ in range(1000):
            is_bad = draw.random() < 0.6  # refused wherever it goes
            fleet.status = dict.fromkeys("abcd", 400 if is_bad else 200)
            await fleet.serve(20, 0.05)
        assert all(fleet.backends.standing(b) is Standing.FULL for b in fleet.backends.all())

    in_virtual_time(main)


def test_of_two_workers_the_failing_one_goes_and_a_single_one_stays() -> None:
    async def main(now: Callable[[], float]) -> None:
        fleet = Fleet(now=now, status={"a": 500, "b": 200})
        await fleet.serve(20, 20)
        a, b = fleet.backends.named("a"), fleet.backends.named("b")
        assert fleet.backends.trusted() == [b]
        b.mark_lost("it is gone")
        assert fleet.backends.trusted() == [a]

    in_virtual_time(main)
