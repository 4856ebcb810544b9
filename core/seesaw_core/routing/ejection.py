"""Ejection: workers that fail where the others do not get no requests for a while.

A worker that fails at once is the least busy one, and would attract all traffic. So outcomes are
recorded, and a worker is ejected after a run of failures that would be improbable if it were like
the others. It returns slowly: one request tries it, then its share of the requests grows. Failures
that clients cause are as frequent on every worker, so they eject none, and none is ejected where
all workers fail.

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
    REFUSED = "refused"  # 4xx, which clients mostly cause
    DECLINED = "declined"  # 429: the worker is full, which is not a failure
    FAILED = "failed"  # 5xx, a lost connection, or an answer that is not HTTP


def outcome_of(status: int) -> Outcome:
    """Return the outcome that an HTTP status stands for."""
    if status == _OVERLOADED:
        return Outcome.DECLINED
    if status >= 500:
        return Outcome.FAILED
    return Outcome.REFUSED if status >= 400 else Outcome.ANSWERED


class Standing(StrEnum):
    """Whether a worker gets requests."""

    FULL = "full"
    EJECTED = "ejected"
    PROBING = "probing"  # the next request tries it
    RETURNING = "returning"


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionPolicy:
    """When a worker is ejected, and how it returns. Units: seconds.

    max_share: the largest share of the workers that are ejected at once, rounded up; one always
        stays.
    improbable: a run ejects a worker if its probability on the other workers is at most this.
    min_run, min_refused_run: the shortest run of failures, and of refusals, that ejects.
    window_s: how long an outcome counts.
    first_s, longest_s: the first time out, and the longest; the time doubles with each ejection.
    return_s: how long the share grows after a request has succeeded.

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
    """A worker was ejected for ``for_s`` seconds after ``run`` equal outcomes in a row."""

    outcome: Outcome
    run: int
    for_s: float

    def __str__(self) -> str:
        return f"{self.run} requests in a row {self.outcome} while others were answered"


@dataclass(slots=True, kw_only=True)
class _Record:
    """The record of one worker."""

    outcomes: deque[tuple[float, Outcome]] = field(default_factory=lambda: deque(maxlen=_KEPT))
    ejection: Ejection | None = None
    num_ejections: int = 0
    until_s: float = 0.0  # end of the ejection
    returning_s: float | None = None  # when the worker began to return
    is_tried: bool = False  # a request that tries the worker is under way

    def run(self, outcome: Outcome) -> int:
        """Return how many of the latest outcomes in a row equal ``outcome``."""
        count = 0
        for _, each in reversed(self.outcomes):
            if each is not outcome:
                break
            count += 1
        return count


class Ejector:
    """Records the outcomes of all workers, and ejects workers.

    Call order: :meth:`observe` for each answer; :meth:`try_begins` and :meth:`try_ends` around
    the request that tries a worker; :meth:`forget` when a worker is gone.
    """

    def __init__(self, policy: EjectionPolicy) -> None:
        self.policy = policy
        self._records: dict[str, _Record] = {}
        self._typical = ExponentialMean(half_life=_TYPICAL_HALF_LIFE)

    @property
    def typical_s(self) -> float:
        """The mean time of an answered request."""
        return self._typical.seconds or _TYPICAL_S

    def ejection(self, name: str) -> Ejection | None:
        """Return why a worker gets less than its full share, or None if it gets it."""
        record = self._records.get(name)
        return None if record is None else record.ejection

    @property
    def is_any_ejected(self) -> bool:
        """Whether any worker gets less than its full share, or did when last observed."""
        return any(record.ejection is not None for record in self._records.values())

    def standing(self, name: str, now_s: float) -> Standing:
        record = self._records.get(name)
        if record is None or record.ejection is None:
            return Standing.FULL
        if record.returning_s is not None:
            is_back = now_s - record.returning_s >= self.policy.return_s
            return Standing.FULL if is_back else Standing.RETURNING
        if now_s < record.until_s or record.is_tried:
            return Standing.EJECTED
        return Standing.PROBING

    def share(self, name: str, now_s: float) -> float:
        """Return a worker's share of the requests, which is below 1 while it returns."""
        record = self._records.get(name)
        if record is None or record.ejection is None or record.returning_s is None:
            return 1.0
        return max(_LEAST_SHARE, min(1.0, (now_s - record.returning_s) / self.policy.return_s))

    def took(self, seconds: float) -> None:
        """Record the time of an answered request."""
        self._typical.observe(seconds)

    def try_begins(self, name: str) -> None:
        self._records[name].is_tried = True

    def try_ends(self, name: str) -> None:
        """Requires: the request's outcome has been observed."""
        if name in self._records:
            self._records[name].is_tried = False

    def forget(self, name: str) -> None:
        self._records.pop(name, None)

    def observe(
        self, name: str, outcome: Outcome, *, now_s: float, among: Collection[str]
    ) -> Ejection | None:
        """Record an outcome. Returns the ejection that follows, if any.

        ``among`` names all workers that serve.
        """
        record = self._records.setdefault(name, _Record())
        record.outcomes.append((now_s, outcome))
        standing = self.standing(name, now_s)
        if standing is Standing.EJECTED:
            return self._tried(record, outcome, now_s) if record.is_tried else None
        if standing is Standing.FULL:
            self._forgive(record, now_s)
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

    def _tried(self, record: _Record, outcome: Outcome, now_s: float) -> Ejection | None:
        assert record.ejection is not None, "only an ejected worker is tried"
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

    def _forgive(self, record: _Record, now_s: float) -> None:
        """End the return of a worker. After a further while its next ejection is short again."""
        if record.returning_s is None:
            return
        record.ejection = None
        if now_s - record.returning_s > self.policy.return_s + self.policy.longest_s:
            record.num_ejections, record.returning_s = 0, None

    def _is_improbable(self, name: str, outcome: Outcome, run: int, now_s: float) -> bool:
        """Return whether the run is improbable for a worker that is like the others."""
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
            return False  # the clients may be the cause
        rate = (_EXPECTED_SHARE + others.count(outcome)) / (1 + len(others))
        return float(rate**run) <= self.policy.improbable
