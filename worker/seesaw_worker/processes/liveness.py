"""Detects an engine that is alive but stalled: a rank that hangs or was stopped.

Each engine core is repeatedly asked for an answer of its ranks, which it requests between two
steps. So the answer comes when the running step has ended, and never if a rank, the core or a
kernel hangs. Hand-overs, which wait for both engines, are watched in the same way.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from seesaw_worker.processes.stalls import StallBounds, StallWatch, Verdict

_ASK_EVERY_S = 2.0
_LOOK_EVERY_S = 0.25
_REPORT_GROWTH = 1.5
_HAND_OVER = "the hand-over of the devices"


class Core(Protocol):
    """What is needed of vLLM's core client."""

    async def collective_rpc_async(self, method: str) -> Any: ...


class WatchedClient(Protocol):
    """An engine client whose engines are watched."""

    def watched_cores(self) -> Mapping[str, Core]: ...
    def hand_over(self) -> int | None: ...
    def expected_step_s(self) -> float: ...


class Liveness:
    """Watches engines and hand-overs.

    ``on_verdict`` is called when the verdict changes, ``say`` when the bounds have become much
    longer than the flags say. Call order: :meth:`run` as a task, once.
    """

    def __init__(
        self,
        client: WatchedClient,
        bounds: StallBounds,
        on_verdict: Callable[[Verdict, str], None],
        say: Callable[[str], object],
    ) -> None:
        self.watch = StallWatch(bounds)
        self.watch.expect(client.expected_step_s())
        self._cores = client.watched_cores()
        self._hand_over = client.hand_over
        self._on_verdict, self._say = on_verdict, say
        self._reported_s = min((s for s in (bounds.unhealthy_s, bounds.exit_s) if s), default=0.0)
        self._watched_hand_over: int | None = None
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
            with contextlib.suppress(Exception):  # an error is an answer as well
                await core.collective_rpc_async("check_health")
            self.watch.ended(name)
            await asyncio.sleep(_ASK_EVERY_S * self._pace)

    async def _look(self) -> None:
        every_s = _LOOK_EVERY_S * self._pace
        last, now = Verdict.FINE, time.monotonic()
        while True:
            await asyncio.sleep(every_s)
            before, now = now, time.monotonic()
            # Time in which this process itself was stopped says nothing about the engines.
            self.watch.passed(min(now - before, 2 * every_s))
            self._follow_hand_over()
            self._report_bounds()
            what, age_s = self.watch.oldest
            if (verdict := self.watch.verdict) is not last:
                last = verdict
                self._on_verdict(verdict, f"{what} has been at one step for {age_s:.0f} s")

    def _report_bounds(self) -> None:
        """Report bounds that slow steps have made much longer than the flags say."""
        unhealthy_s, exit_s = map(self.watch.bound_s, (Verdict.UNHEALTHY, Verdict.HOPELESS))
        if (first_s := min(unhealthy_s, exit_s)) > _REPORT_GROWTH * self._reported_s:
            self._reported_s = first_s
            self._say(
                "slow steps lengthen the bounds: a step that does not end makes the worker "
                f"unhealthy after {unhealthy_s:.0f} s and ends it after {exit_s:.0f} s (inf: never)"
            )

    def _follow_hand_over(self) -> None:
        number = self._hand_over()
        if number == self._watched_hand_over:
            return
        if self._watched_hand_over is not None:
            self.watch.ended(_HAND_OVER)
        if number is not None:
            self.watch.began(_HAND_OVER)
        self._watched_hand_over = number
