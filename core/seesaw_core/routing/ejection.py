"""Decides which workers get no requests for a while, because they fail where others do not.

A worker that fails at once is the least busy, and would attract all traffic. So outcomes are
counted, and a run of failures that would be improbable if the worker were like the others ejects
it. The worker returns slowly: it gets one trial request, then a growing share. Failures that
clients cause are the same on every worker and eject none; nor does any ejection happen if
everything fails.

Pure: time is an argument. Source: outlier detection in Envoy.
Deviation: runs are weighed against the other workers' rate, not against a fixed number. More
workers may be out (half of them, not 10 %), since deployments have few, and for less long (5 to
30 s, not 30 to 300 s), since one request tries a worker before others follow.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil

from seesaw_core.errors import InputError
from seesaw_core.rates import ExponentialMean

_OVERLOADED = 429  # HTTP status
_KEPT = 64  # outcomes of a worker: ten times the longest of the shortest runs that count
_TYPICAL_S = 1.0  # before anything is measured
_TYPICAL_HALF_LIFE = 32.0  # requests; their lengths differ widely
_LEAST_SHARE = 0.1  # of a returning worker, so that it gets any requests to answer
# Share of failures that is taken for normal. With nothing known of other workers, ``min_run``
# failures in a row are improbable: 0.005³ < 1e-6.
_EXPECTED_SHARE = 0.005
_MOST_DOUBLINGS = 32  # keeps the time out a finite number; ``longest_s`` bounds it


class Outcome(StrEnum):
    """How a worker handled a request."""

    ANSWERED = "answered"
    REFUSED = "refused"  # 4xx: usually the client's fault
    DECLINED = "declined"  # 429: the worker is full, which is not a failure
    FAILED = "failed"  # 5xx, a lost connection, or an answer that is not HTTP


def outcome_of(status: int) -> Outcome:
    """Returns the outcome that an HTTP status stands for."""
    if status == _OVERLOADED:
        return Outcome.DECLINED
    if status >= 500:
        return Outcome.FAILED
    return Outcome.REFUSED if status >= 400 else Outcome.ANSWERED


class Standing(StrEnum):
    """Whether a worker gets requests."""

    FULL = "full"
    EJECTED = "ejected"
    PROBING = "probing"  # the next request is its trial
    RETURNING = "returning"  # it gets a growing share


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionPolicy:
    """When a worker is ejected, and how it returns. Units: seconds.

    max_share: the largest share of workers ejected at once, rounded up; one worker always stays.
    improbable: a run ejects a worker if its probability on other workers is at most this.
    min_run, min_refused_run: the shortest run of failures, and of refusals, that ejects.
    window_s: how long the outcomes of other workers count.
    first_s, longest_s: the first ejection's duration, and the longest; it doubles each time.
    return_s: how long the share grows after a trial has succeeded.

    Raises: InputError if the share is out of range.
    """

    max_share: float = 0.5
    improbable: float = 1e-6
    min_run: int = 3
    min_refused_run: int = 6
    window_s: float = 30.0
    first_s: float = 5.0
    longest_s: float = 30.0
    return_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise InputError(
                f"--max-ejected-percent must be from 0 to 100, got {100 * self.max_share:g}"
            )

    def max_ejected(self, num_workers: int) -> int:
        return max(0, min(num_workers - 1, ceil(self.max_share * num_workers)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ejection:
    """An ejection for ``for_s`` seconds, after a run of outcomes of one kind."""

    outcome: Outcome
    run: int
    for_s: float

    def __str__(self) -> str:
        return f"{self.run} requests in a row {self.outcome} while others were answered"


@dataclass(slots=True, kw_only=True)
class _Record:
    """The history of one worker."""

    outcomes: deque[tuple[float, Outcome]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    ejection: Ejection | None = None
    num_ejections: int = 0
    until_s: float = 0.0  # the end of its ejection
    returning_s: float | None = None  # when it began to return
    is_on_trial: bool = False  # its trial request is running

    def run(self, outcome: Outcome) -> int:
        """Returns the number of most recent outcomes that are of this kind."""
        count = 0
        for _, each in reversed(self.outcomes):
            if each is not outcome:
                break
            count += 1
        return count


class Ejector:
    """Records the outcomes of all workers, and ejects workers by the policy.

    Call order: :meth:`observe` for each outcome; :meth:`begin_trial` and :meth:`end_trial` around
    the trial request of a worker; :meth:`forget` when a worker is gone.
    """

    def __init__(self, policy: EjectionPolicy) -> None:
        self.policy = policy
        self._records: dict[str, _Record] = {}
        self._typical = ExponentialMean(half_life=_TYPICAL_HALF_LIFE)

    @property
    def typical_s(self) -> float:
        """The typical duration of a request that is answered."""
        return self._typical.seconds or _TYPICAL_S

    def ejection(self, name: str) -> Ejection | None:
        """Returns why a worker gets less than its full share; None if it gets all of it."""
        record = self._records.get(name)
        return None if record is None else record.ejection

    @property
    def is_any_ejected(self) -> bool:
        """Whether any worker may get less than its full share."""
        return any(record.ejection is not None for record in self._records.values())

    def standing(self, name: str, now_s: float) -> Standing:
        record = self._records.get(name)
        if record is None or record.ejection is None:
            return Standing.FULL
        if record.returning_s is not None:
            is_back = now_s - record.returning_s >= self.policy.return_s
            return Standing.FULL if is_back else Standing.RETURNING
        if now_s < record.until_s or record.is_on_trial:
            return Standing.EJECTED
        return Standing.PROBING

    def share(self, name: str, now_s: float) -> float:
        """Returns the share of a full worker's requests that the worker gets."""
        record = self._records.get(name)
        if record is None or record.ejection is None or record.returning_s is None:
            return 1.0
        return max(_LEAST_SHARE, min(1.0, (now_s - record.returning_s) / self.policy.return_s))

    def observe_duration(self, seconds: float) -> None:
        """Note how long an answered request took."""
        self._typical.observe(seconds)

    def begin_trial(self, name: str) -> None:
        self._records[name].is_on_trial = True

    def end_trial(self, name: str) -> None:
        """Requires: the outcome of the trial, if any, has been observed."""
        if name in self._records:
            self._records[name].is_on_trial = False

    def forget(self, name: str) -> None:
        self._records.pop(name, None)

    def observe(
        self, name: str, outcome: Outcome, *, now_s: float, among: Collection[str]
    ) -> Ejection | None:
        """Record an outcome. Returns the ejection it causes. ``among``: all serving workers."""
        record = self._records.setdefault(name, _Record())
        record.outcomes.append((now_s, outcome))
        standing = self.standing(name, now_s)
        if standing is Standing.EJECTED:
            return self._end_of_trial(record, outcome, now_s) if record.is_on_trial else None
        if standing is Standing.FULL:
            self._end_ejection(record, now_s)
        if outcome is Outcome.ANSWERED:
            return None
        run = record.run(outcome)
        if not self._is_improbable(name, outcome, run, now_s):
            return None
        others = [n for n in among if n != name]
        num_out = sum(
            self.standing(n, now_s) in (Standing.EJECTED, Standing.PROBING) for n in others
        )
        if num_out >= self.policy.max_ejected(len(others) + 1):
            return None
        return self._eject(record, outcome, run, now_s)

    def _end_of_trial(self, record: _Record, outcome: Outcome, now_s: float) -> Ejection | None:
        assert record.ejection is not None, "it is ejected"
        if outcome is Outcome.FAILED or outcome is record.ejection.outcome:
            return self._eject(record, outcome, record.run(outcome), now_s)
        record.returning_s = now_s
        return None

    def _eject(self, record: _Record, outcome: Outcome, run: int, now_s: float) -> Ejection:
        for_s = min(self.policy.longest_s, self.policy.first_s * 2.0**record.num_ejections)
        record.num_ejections = min(record.num_ejections + 1, _MOST_DOUBLINGS)
        record.until_s, record.returning_s = now_s + for_s, None
        record.ejection = Ejection(outcome=outcome, run=run, for_s=for_s)
        return record.ejection

    def _end_ejection(self, record: _Record, now_s: float) -> None:
        """End an ejection; after a long time without another, the next one is short again."""
        if record.returning_s is None:
            return
        record.ejection = None
        if now_s - record.returning_s > self.policy.return_s + self.policy.longest_s:
            record.num_ejections, record.returning_s = 0, None

    def _is_improbable(self, name: str, outcome: Outcome, run: int, now_s: float) -> bool:
        """Returns whether such a run is improbable on a worker that is like the others."""
        least = self.policy.min_run if outcome is Outcome.FAILED else self.policy.min_refused_run
        if run < least:
            return False
        since_s = now_s - self.policy.window_s
        others = [
            each
            for other, record in self._records.items()
            if other != name and self.standing(other, now_s) in (Standing.FULL, Standing.RETURNING)
            for at_s, each in record.outcomes
            if at_s >= since_s
        ]
        if outcome is Outcome.REFUSED and len(others) < least:
            return False  # it may as well be the clients' fault
        rate = (_EXPECTED_SHARE + others.count(outcome)) / (1 + len(others))
        return float(rate**run) <= self.policy.improbable
