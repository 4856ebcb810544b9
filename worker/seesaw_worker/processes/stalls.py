"""Whether an engine still answers: arithmetic on how long things have been under way.

Something is begun, and ends; how long it may take is learnt from how long such things took so
far. A verdict needs no clock: whoever watches says how much time has passed, and leaves out
time in which nobody could have noticed an end.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

_SLOW_SHARE = 0.25
_SLOW_TIMES_LONGEST = 1.5
_TIMES_LONGEST = 3.0


class Verdict(IntEnum):
    """How long the oldest thing under way has taken, by what follows from it."""

    FINE = 0
    SLOW = 1
    UNHEALTHY = 2
    HOPELESS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StallBounds:
    """When what does not end counts as what. Units: seconds; 0 stands for never.

    unhealthy_s, exit_s: of one step while serving; ``exit_s`` also of a stopped process.
    load_s: of loading and warming up as a whole.
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
    """Follows what is under way, by name.

    Nothing is unhealthy before it has taken three times as long as the longest that ever ended
    well, nor slow before half of that, so that slow models and long prefills make the bounds
    longer by themselves.
    """

    def __init__(self, bounds: StallBounds) -> None:
        self.bounds = bounds
        self._longest_s = 0.0
        self._ages_s: dict[str, float] = {}

    def expect(self, step_s: float) -> None:
        """Steps may take this long, although none has yet."""
        self._longest_s = max(self._longest_s, step_s)

    def began(self, what: str) -> None:
        self._ages_s[what] = 0.0

    def ended(self, what: str) -> None:
        """Something has ended. What was a stall teaches nothing about how long steps take."""
        age_s = self._ages_s.pop(what, 0.0)
        if self._judge(age_s) < Verdict.UNHEALTHY:
            self.expect(age_s)

    def passed(self, seconds: float) -> None:
        """Time has passed in which an end would have been noticed."""
        for what in self._ages_s:
            self._ages_s[what] += seconds

    @property
    def oldest(self) -> tuple[str, float]:
        """What has been under way for longest, and for how many seconds."""
        return max(self._ages_s.items(), key=lambda item: item[1], default=("", 0.0))

    @property
    def verdict(self) -> Verdict:
        return self._judge(self.oldest[1])

    def bound_s(self, verdict: Verdict) -> float:
        """How long a step must take for a verdict, by all that was learnt; infinite for never."""
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
    """A verdict in words for the log and the state; ``what`` says who is at one step."""
    if verdict is Verdict.FINE:
        return "the engines go on"
    if verdict is Verdict.SLOW:
        return f"{what}, longer than any before"
    return f"{what}; unhealthy until it goes on"
