"""Whether an engine still answers: arithmetic on how long things have been under way.

Something is begun, and ends; how long it may take is learnt from how long such things took so
far. A verdict needs no clock: whoever watches says how much time has passed, and leaves out
time in which nobody could have noticed an end.
"""

from dataclasses import dataclass
from enum import IntEnum

_SLOW_SHARE = 0.25
_TIMES_LONGEST = 3.0


class Verdict(IntEnum):
    """How long the oldest thing under way has taken, by what follows from it."""

    FINE = 0
    SLOW = 1
    UNHEALTHY = 2
    HOPELESS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StallBounds:
    """When a step that does not end counts as what. Units: seconds; 0 stands for never."""

    unhealthy_s: float = 60.0
    exit_s: float = 300.0

    @property
    def is_on(self) -> bool:
        return bool(self.unhealthy_s or self.exit_s)

    @property
    def slow_s(self) -> float:
        return _SLOW_SHARE * min(s for s in (self.unhealthy_s, self.exit_s) if s)


class StallWatch:
    """Follows what is under way, by name.

    Nothing is judged before it has taken three times as long as the longest that ever ended
    well, so that slow models and long prefills make the bounds longer by themselves.
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

    def _judge(self, age_s: float) -> Verdict:
        bounds, least_s = self.bounds, _TIMES_LONGEST * self._longest_s
        grace_s = max(
            0.0, bounds.exit_s - bounds.unhealthy_s
        )  # unhealthy as long before the end as ever
        for verdict, bound_s, at_least_s in (
            (Verdict.HOPELESS, bounds.exit_s, least_s + grace_s),
            (Verdict.UNHEALTHY, bounds.unhealthy_s, least_s),
            (Verdict.SLOW, bounds.slow_s if bounds.is_on else 0.0, least_s),
        ):
            if bound_s and age_s > max(bound_s, at_least_s):
                return verdict
        return Verdict.FINE


def explain(verdict: Verdict, what: str) -> str:
    """A verdict in words for the log and the state; ``what`` says who is at one step."""
    if verdict is Verdict.FINE:
        return "the engines go on"
    if verdict is Verdict.SLOW:
        return f"{what}, far longer than any before"
    return f"{what}; unhealthy until it goes on"
