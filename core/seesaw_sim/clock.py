"""The virtual clock: what happens, in the order in which it happens."""

import heapq
from collections.abc import Callable


class Timer:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("action", "is_cancelled")

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """Runs actions at their times; those of one time in the order in which they were set.

    What must look at all that happened at one moment asks to be run by :meth:`settle`.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._number = 0
        self._unsettled: dict[Callable[[], None], None] = {}

    def at(self, time_s: float, action: Callable[[], None]) -> Timer:
        timer = Timer(action)
        self._number += 1
        heapq.heappush(self._timers, (max(time_s, self.now_s), self._number, timer))
        return timer

    def settle(self, action: Callable[[], None]) -> None:
        """Run ``action`` once, after all that happens at this moment."""
        self._unsettled[action] = None

    def run(self) -> None:
        """Until nothing is left to happen."""
        while True:
            while self._unsettled and not self._happens_now():
                action = next(iter(self._unsettled))
                del self._unsettled[action]
                action()
            if not self._timers:
                return
            self.now_s, _, timer = heapq.heappop(self._timers)
            if not timer.is_cancelled:
                timer.action()

    def _happens_now(self) -> bool:
        return bool(self._timers) and self._timers[0][0] <= self.now_s
