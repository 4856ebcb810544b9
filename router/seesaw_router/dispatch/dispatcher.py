"""The queue of prompts, and the loop that carries out the wave policy's steps."""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self

from seesaw_core.errors import RetryError
from seesaw_core.routing.waves import Hold, Queue, Release, WavePolicy
from seesaw_router.dispatch.backend import Backend
from seesaw_router.dispatch.backends import Backends
from seesaw_router.metrics import Metrics

logger = logging.getLogger(__name__)

_AFTER_FAILURE_S = 1.0


class QueueFullError(RetryError):
    """Too many requests wait; the client shall come back after ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many requests wait")
        self.retry_after_s = retry_after_s


class NoWorkerError(RetryError):
    """No worker serves, or none has for too long; the client may come back later."""

    def __init__(self, why: str, waited_s: float = 0.0) -> None:
        since = f"has served for {waited_s:.0f} s" if round(waited_s) else "serves"
        super().__init__(f"no worker {since}: {why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A request's worker, where it counts as running until this context is left.

    ``is_trial``: it tries one that was ejected. ``is_pinned``: no other worker could have had the
    request, so that how it ends says nothing of the worker beside others.
    """

    backend: Backend
    end: Callable[[], None]
    is_trial: bool = False
    is_pinned: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@dataclass(slots=True, kw_only=True)
class Ticket:
    """One request in the queue. ``avoid``: workers that have failed it already."""

    number: int
    tokens: int
    came_s: float
    avoid: frozenset[str]
    granted: "asyncio.Future[Placed]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Dispatcher:
    """Gives each request a worker, when its turn comes.

    Call order: :meth:`run` as a task; :meth:`place` for each attempt of each request.
    """

    def __init__(
        self,
        *,
        policy: WavePolicy,
        backends: Callable[[], Backends],
        max_queued: int,
        max_unserved_s: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._backends = backends
        self._max_queued = max_queued
        self._max_unserved_s = max_unserved_s
        self._unserved_since_s: float | None = None
        self._has_warned = False
        self._metrics = metrics
        self._now = clock
        self._numbers = itertools.count()
        self._queue: OrderedDict[int, Ticket] = OrderedDict()
        self._kick = asyncio.Event()
        self.last_reason = ""

    def __len__(self) -> int:
        return len(self._queue)

    def kick(self) -> None:
        """Something has changed: look at the queue again."""
        self._kick.set()

    async def place(self, tokens: int, avoid: frozenset[str]) -> Placed:
        """A worker for a request, once its turn has come.

        Raises: QueueFullError, NoWorkerError.
        """
        if len(self._queue) >= self._max_queued:
            raise QueueFullError(self._retry_after_s())
        ticket = Ticket(number=next(self._numbers), tokens=tokens, came_s=self._now(), avoid=avoid)
        self._queue[ticket.number] = ticket
        self._kick.set()
        try:
            return await ticket.granted
        except asyncio.CancelledError:
            self._queue.pop(ticket.number, None)
            granted = ticket.granted
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().end()
            raise

    async def run(self) -> None:
        """Carry out steps for ever."""
        while True:
            self._kick.clear()
            try:
                hold_s = self._step()
            except Exception:  # a bug of ours; without this loop no request is ever placed again
                logger.exception("a step of the dispatcher failed")
                hold_s = _AFTER_FAILURE_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(hold_s):
                    await self._kick.wait()

    def _step(self) -> float | None:
        """Release whatever may go now. Returns how long to wait at most for something new."""
        while True:
            if not self._queue:
                self.last_reason = "no prompt waits"
                return None
            self._retry_elsewhere()
            self._try_ejected()
            step = self._policy.next_step(self._view(), [b.replica() for b in self._trusted()])
            match step:
                case Release(replica=name, count=count, reason=reason):
                    self._release(name, count, reason)
                case Hold(at_most_s=at_most_s, reason=reason):
                    self.last_reason = reason
                    unserved_s = self._give_up_unserved()
                    waits = [s for s in (at_most_s, unserved_s) if s is not None]
                    return min(waits, default=None)

    def _trusted(self) -> list[Backend]:
        return self._backends().trusted()

    def _view(self) -> Queue:
        tickets = [t for t in self._queue.values() if not t.avoid]
        oldest = self._now() - tickets[0].came_s if tickets else 0.0
        return Queue(tokens=tuple(t.tokens for t in tickets), oldest_wait_s=oldest)

    def _retry_elsewhere(self) -> None:
        """Requests that a worker has failed go to another at once; they have waited enough."""
        for ticket in [t for t in self._queue.values() if t.avoid]:
            trusted = self._trusted()
            others = [b for b in trusted if b.target.name not in ticket.avoid] or trusted
            if others:
                self._grant(ticket, min(others, key=lambda b: b.num_busy))

    def _try_ejected(self) -> None:
        """An ejected worker whose time has come gets one request; it may be sent elsewhere then."""
        backend = self._backends().to_try()
        ticket = next((t for t in self._queue.values() if not t.avoid), None)
        if backend is not None and ticket is not None:
            self._grant(ticket, backend, is_trial=True)

    def _give_up_unserved(self) -> float | None:
        """Refuse what has waited too long without any worker. Returns when the next will have."""
        if self._backends().serving():
            self._unserved_since_s, self._has_warned = None, False
            return None
        now = self._now()
        if self._unserved_since_s is None:
            self._unserved_since_s = now
        why = self._backends().why_none_serves()
        if self._queue and not self._has_warned:
            logger.warning("%d requests wait, and no worker serves: %s", len(self._queue), why)
            self._has_warned = True
        for ticket in list(self._queue.values()):
            waited_s = now - max(ticket.came_s, self._unserved_since_s)
            if waited_s < self._max_unserved_s:
                return self._max_unserved_s - waited_s
            del self._queue[ticket.number]
            if not ticket.granted.done():
                ticket.granted.set_exception(NoWorkerError(why, waited_s))
        return None

    def _release(self, name: str, count: int, reason: str) -> None:
        backend = self._backends().named(name)
        self.last_reason = reason
        self._metrics.count_released(count, reason)
        fresh = (t for t in list(self._queue.values()) if not t.avoid)
        for ticket in itertools.islice(fresh, count):
            self._grant(ticket, backend)

    def _grant(self, ticket: Ticket, backend: Backend, *, is_trial: bool = False) -> None:
        del self._queue[ticket.number]
        if ticket.granted.done():
            return  # its client has gone, and its task has not run since
        self._metrics.queue_seconds.observe(self._now() - ticket.came_s)
        backend.sent(ticket.number, ticket.tokens)
        if is_trial:
            self._backends().trial_begins(backend)
        end = partial(self._end, ticket.number, backend, is_trial=is_trial)
        ticket.granted.set_result(Placed(backend=backend, end=end, is_trial=is_trial))

    def _end(self, number: int, backend: Backend, *, is_trial: bool) -> None:
        backend.ended(number)
        if is_trial:
            self._backends().trial_ends(backend)
        self._kick.set()

    def _retry_after_s(self) -> int:
        """As long as the oldest has waited by now: so fast does the queue move."""
        oldest = next(iter(self._queue.values()))
        return max(1, round(self._now() - oldest.came_s))
