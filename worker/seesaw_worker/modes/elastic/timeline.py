"""What groups and requests did of late, for pictures: bounded, and of no use to the planning.

The scheduler reports iterations as they begin and end; the server takes what has ended since.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from seesaw_core.elastic.pool import TokenPool
from seesaw_core.elastic.view import Decode, Prefill, Step
from seesaw_core.messages import GroupSpan, RequestSpan

MOST_SPANS: Final = 64  # of either kind between two looks; further ones displace the oldest
_GAP_S = 0.05  # iterations of one group that are further apart are not shown as one span


class Spans:
    """The last spans of one kind, and how many there have been."""

    def __init__(self) -> None:
        self.total = 0
        self._last: deque[GroupSpan | RequestSpan] = deque(maxlen=MOST_SPANS)

    def add(self, span: GroupSpan | RequestSpan) -> None:
        self.total += 1
        self._last.append(span)

    def as_values(self) -> dict[str, Any]:
        return {"total": self.total, "last": [dataclasses.asdict(span) for span in self._last]}


class Timeline:
    """Spans of groups and requests. Units: Unix seconds.

    Call order: :meth:`begin` once the pool has made room for a step, then :meth:`end` or
    :meth:`fail` once the pool knows its outcome; the others at any time.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._now = clock
        self._groups, self._requests = Spans(), Spans()
        self._began: dict[tuple[int, ...], float] = {}
        self._decoding: dict[tuple[int, ...], GroupSpan] = {}
        self._open: dict[str, RequestSpan] = {}
        self._numbers: dict[str, int] = {}
        self._num_seen = 0

    def __len__(self) -> int:
        """Requests and groups of which something is remembered, but for the finished spans."""
        return len(self._numbers.keys() | self._open.keys()) + len(self._began)

    def begin(self, step: Step, pool: TokenPool) -> None:
        """A group begins an iteration or a migration."""
        self._began[step.instances] = self._now()
        match step:
            case Prefill():
                for key in step.placements:
                    self._reopen(key, "prefill", step.instances, pool)
            case Decode():
                for key, master in step.masters.items():
                    span = self._open.get(key)
                    if span is None or master not in span.instances:
                        self._hold(key, pool)

    def end(self, step: Step, keys: Sequence[str], pool: TokenPool) -> None:
        """It has ended well, for these requests."""
        self._note(step, len(keys))
        for key in keys:
            if key not in pool:
                self._close(key)
            elif not isinstance(step, Decode):
                self._hold(key, pool)

    def fail(self, step: Step, keys: Sequence[str]) -> None:
        """It has ended, and computed nothing."""
        del self._began[step.instances]
        if not isinstance(step, Decode):
            for key in keys:
                self._close(key)

    def forget(self, key: str) -> None:
        """A request has ended."""
        self._close(key)
        self._numbers.pop(key, None)

    def recent(self, pool: TokenPool) -> dict[str, Any]:
        """Return the last spans as plain values."""
        for key in [k for k in self._open if k not in pool]:  # preempted, or lost
            self._close(key)
        for span in self._decoding.values():
            self._groups.add(span)
        self._decoding.clear()
        return {"groups": self._groups.as_values(), "requests": self._requests.as_values()}

    def _note(self, step: Step, num_requests: int) -> None:
        """Add a group's span. Decode iterations that follow each other become one."""
        began_s = self._began.pop(step.instances)
        span = GroupSpan(
            kind=type(step).__name__.lower(),
            instances=step.instances,
            num_iterations=1,
            num_requests=num_requests,
            began_s=began_s,
            ended_s=self._now(),
        )
        if not isinstance(step, Decode):
            self._groups.add(span)
            return
        last = self._decoding.pop(step.instances, None)
        if last is not None:
            follows = began_s - last.ended_s < _GAP_S and last.num_requests == span.num_requests
            if follows:
                number = last.num_iterations + 1
                span = dataclasses.replace(span, began_s=last.began_s, num_iterations=number)
            else:
                self._groups.add(last)
        self._decoding[step.instances] = span

    def _hold(self, key: str, pool: TokenPool) -> None:
        """A request's KV is on other instances than before."""
        holders = tuple(sorted(pool.placement(key).tokens_by_instance()))
        self._reopen(key, "decode", holders, pool)

    def _reopen(self, key: str, kind: str, instances: tuple[int, ...], pool: TokenPool) -> None:
        now_s = self._close(key)
        if key not in self._numbers:
            self._num_seen += 1
            self._numbers[key] = self._num_seen
        self._open[key] = RequestSpan(
            number=self._numbers[key],
            kind=kind,
            instances=instances,
            num_tokens=pool.placement(key).num_tokens,
            began_s=now_s,
            ended_s=now_s,
        )

    def _close(self, key: str) -> float:
        """End a request's open span, if there is one. Returns when that was."""
        now_s = self._now()
        span = self._open.pop(key, None)
        if span is not None:
            self._requests.add(dataclasses.replace(span, ended_s=now_s))
        return now_s
