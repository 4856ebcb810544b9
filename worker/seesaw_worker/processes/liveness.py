"""Notices an engine that lives but stands still: a rank that hangs, or that somebody stopped.

Each engine core is asked again and again to let its ranks answer. It gets to that between two
steps, so an answer comes when the running step has ended, and never if a rank, the core or a
kernel hangs. The same is seen of hand-overs, which wait for both engines.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from seesaw_worker.processes.stalls import StallBounds, StallWatch, Verdict

_ASK_EVERY_S = 2.0
_LOOK_EVERY_S = 0.25
_TOLD_TIMES = 1.5
_HAND_OVER = "the hand-over of the devices"


class Core(Protocol):
    """What we need of vLLM's core client."""

    async def collective_rpc_async(self, method: str) -> Any: ...


class Client(Protocol):
    """Whose engines are watched."""

    def watched_cores(self) -> Mapping[str, Core]: ...
    def hand_over(self) -> int | None: ...
    def expected_step_s(self) -> float: ...


class Liveness:
    """Watches engines and hand-overs.

    ``judged`` hears of each change of the verdict, ``say`` of bounds that have become much longer
    than the flags say. Call order: :meth:`run` as a task, once.
    """

    def __init__(
        self,
        client: Client,
        bounds: StallBounds,
        judged: Callable[[Verdict, str], None],
        say: Callable[[str], object],
    ) -> None:
        self.watch = StallWatch(bounds)
        self.watch.expect(client.expected_step_s())
        self._cores = client.watched_cores()
        self._hand_over = client.hand_over
        self._judged, self._say = judged, say
        self._told_s = min((s for s in (bounds.unhealthy_s, bounds.exit_s) if s), default=0.0)
        self._seen_hand_over: int | None = None
        self._pace = min(1.0, bounds.slow_s) if bounds.is_on else 1.0

    async def run(self) -> None:
        """Watch for ever. Returns at once if no bound is set."""
        if not self.watch.bounds.is_on:
            return
        async with asyncio.TaskGroup() as tasks:
            for name, core in self._cores.items():
                tasks.create_task(self._ask(name, core))
            tasks.create_task(self._look())

    async def _ask(self, name: str, core: Core) -> None:
        while True:
            self.watch.began(name)
            with contextlib.suppress(Exception):  # an answer too; others notice what has died
                await core.collective_rpc_async("check_health")
            self.watch.ended(name)
            await asyncio.sleep(_ASK_EVERY_S * self._pace)

    async def _look(self) -> None:
        every_s = _LOOK_EVERY_S * self._pace
        last, now = Verdict.FINE, time.monotonic()
        while True:
            await asyncio.sleep(every_s)
            before, now = now, time.monotonic()
            # Time in which this process stood still itself says nothing about the engines.
            self.watch.passed(min(now - before, 2 * every_s))
            self._follow_hand_over()
            self._tell_bounds()
            what, age_s = self.watch.oldest
            if (verdict := self.watch.verdict) is not last:
                last = verdict
                self._judged(verdict, f"{what} has been at one step for {age_s:.0f} s")

    def _tell_bounds(self) -> None:
        """Steps so far may make the bounds longer than the flags say; tell when they do by much."""
        unhealthy_s, exit_s = map(self.watch.bound_s, (Verdict.UNHEALTHY, Verdict.HOPELESS))
        if (first_s := min(unhealthy_s, exit_s)) > _TOLD_TIMES * self._told_s:
            self._told_s = first_s
            self._say(
                "steps take long here and lengthen the bounds: one that does not end makes "
                f"unhealthy after {unhealthy_s:.0f} s and ends the worker after {exit_s:.0f} s "
                "(inf: never)"
            )

    def _follow_hand_over(self) -> None:
        number = self._hand_over()
        if number == self._seen_hand_over:
            return
        if self._seen_hand_over is not None:
            self.watch.ended(_HAND_OVER)
        if number is not None:
            self.watch.began(_HAND_OVER)
        self._seen_hand_over = number
