"""The virtual clock: runs actions in the order of their times."""

import heapq
from collections.abc import Callable


class Timer:
    """An action that will run, unless it is cancelled."""

    __slots__ = ("action", "is_cancelled")

    def __init__(self, action: Callable[[], None]) -> None:
        self.action = action
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Clock:
    """Runs actions at their times; actions of one time run in the order in which they were set.

    An action that depends on everything else that happens at one moment is set by :meth:`settle`.
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
        """Run ``action`` once, after all other actions of this moment."""
        self._unsettled[action] = None

    def run(self) -> None:
        """Run until no action is left."""
        while True:
            while self._unsettled and not self._has_action_now():
                action = next(iter(self._unsettled))
                del self._unsettled[action]
                action()
            if not self._timers:
                return
            self.now_s, _, timer = heapq.heappop(self._timers)
            if not timer.is_cancelled:
                timer.action()

    def _has_action_now(self) -> bool:
        return bool(self._timers) and self._timers[0][0] <= self.now_s
