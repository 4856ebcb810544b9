"""Decides whether an engine has stalled, from the ages of its running steps.

Each step begins and ends, and the longest step so far determines how long a step may take. There
is no clock here: the caller reports how much time has passed, and leaves out time in which it could
not have observed the end of a step.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

_SLOW_SHARE = 0.25
_SLOW_TIMES_LONGEST = 1.5
_TIMES_LONGEST = 3.0


class Verdict(IntEnum):
    """What the age of the oldest running step means."""

    FINE = 0
    SLOW = 1
    UNHEALTHY = 2
    HOPELESS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StallBounds:
    """The ages at which a step counts as stalled. Units: seconds; 0 means never.

    unhealthy_s, exit_s: for one step while serving; ``exit_s`` also for a stopped process.
    load_s: for loading and warming up as a whole.
    """

    unhealthy_s: float = 60.0
    exit_s: float = 300.0
    load_s: float = 7200.0

    @property
    def is_on(self) -> bool:
        return bool(self.unhealthy_s or self.exit_s)

    @property
    def slow_s(self) -> float:
        return _SLOW_SHARE * min((s for s in (self.unhealthy_s, self.exit_s) if s), default=0.0)


class StallWatch:
    """Tracks running steps by name.

    No step is unhealthy before it has taken three times as long as the longest step that ended in
    time, nor slow before half of that, so that slow models and long prefills lengthen the bounds by
    themselves.
    """

    def __init__(self, bounds: StallBounds) -> None:
        self.bounds = bounds
        self._longest_s = 0.0
        self._ages_s: dict[str, float] = {}

    def expect(self, step_s: float) -> None:
        """Allow steps of this length, although none has taken as long yet."""
        self._longest_s = max(self._longest_s, step_s)

    def began(self, what: str) -> None:
        self._ages_s[what] = 0.0

    def ended(self, what: str) -> None:
        """Record the end of a step. A stall does not lengthen the bounds."""
        age_s = self._ages_s.pop(what, 0.0)
        if self._judge(age_s) < Verdict.UNHEALTHY:
            self.expect(age_s)

    def passed(self, seconds: float) -> None:
        """Record that time has passed in which the end of a step would have been observed."""
        for what in self._ages_s:
            self._ages_s[what] += seconds

    @property
    def oldest(self) -> tuple[str, float]:
        """The oldest running step, and its age in seconds."""
        return max(self._ages_s.items(), key=lambda item: item[1], default=("", 0.0))

    @property
    def verdict(self) -> Verdict:
        return self._judge(self.oldest[1])

    def bound_s(self, verdict: Verdict) -> float:
        """Return how long a step must take for a verdict; infinite if it never gets it."""
        bounds, longest_s = self.bounds, self._longest_s
        grace_s = max(0.0, bounds.exit_s - bounds.unhealthy_s)  # from unhealthy to the end
        flag_s, at_least_s = {
            Verdict.SLOW: (bounds.slow_s, _SLOW_TIMES_LONGEST * longest_s),
            Verdict.UNHEALTHY: (bounds.unhealthy_s, _TIMES_LONGEST * longest_s),
            Verdict.HOPELESS: (bounds.exit_s, _TIMES_LONGEST * longest_s + grace_s),
        }.get(verdict, (0.0, 0.0))
        return max(flag_s, at_least_s) if flag_s else math.inf

    def _judge(self, age_s: float) -> Verdict:
        return max((v for v in Verdict if age_s > self.bound_s(v)), default=Verdict.FINE)


def explain(verdict: Verdict, what: str) -> str:
    """Return a verdict in words for the log and the state; ``what`` names the oldest step."""
    if verdict is Verdict.FINE:
        return "the engines continue"
    if verdict is Verdict.SLOW:
        return f"{what}, longer than any step before"
    return f"{what}; unhealthy until the step ends"
