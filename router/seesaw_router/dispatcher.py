"""The queue of prompts, and the loop that carries out the wave policy's steps."""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from seesaw_core.errors import RetryError
from seesaw_core.waves import Hold, Queue, Release, WavePolicy
from seesaw_router.backends import Backend, Backends
from seesaw_router.metrics import Metrics

logger = logging.getLogger(__name__)

_AFTER_FAILURE_S = 1.0


class QueueFullError(RetryError):
    """Too many requests wait; the client shall come back after ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many requests wait")
        self.retry_after_s = retry_after_s


@dataclass(slots=True, kw_only=True)
class Ticket:
    """One request in the queue. ``avoid``: workers that have failed it already."""

    number: int
    tokens: int
    came_s: float
    avoid: frozenset[str]
    granted: "asyncio.Future[Backend]" = field(
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
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._backends = backends
        self._max_queued = max_queued
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

    @asynccontextmanager
    async def place(self, tokens: int, avoid: frozenset[str]) -> AsyncIterator[Backend]:
        """A worker for a request, which counts as running there inside the context.

        Raises: QueueFullError.
        """
        if len(self._queue) >= self._max_queued:
            raise QueueFullError(self._retry_after_s())
        ticket = Ticket(number=next(self._numbers), tokens=tokens, came_s=self._now(), avoid=avoid)
        self._queue[ticket.number] = ticket
        self._kick.set()
        try:
            backend = await ticket.granted
        except asyncio.CancelledError:
            self._queue.pop(ticket.number, None)
            if ticket.granted.done() and not ticket.granted.cancelled():
                ticket.granted.result().ended(ticket.number)
            raise
        try:
            yield backend
        finally:
            backend.ended(ticket.number)
            self._kick.set()

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
            self._retry_elsewhere()
            step = self._policy.next_step(self._view(), [b.replica() for b in self._serving()])
            match step:
                case Release(replica=name, count=count, reason=reason):
                    self._release(name, count, reason)
                case Hold(at_most_s=at_most_s, reason=reason):
                    self.last_reason = reason
                    return at_most_s

    def _serving(self) -> list[Backend]:
        return self._backends().serving()

    def _view(self) -> Queue:
        tickets = [t for t in self._queue.values() if not t.avoid]
        oldest = self._now() - tickets[0].came_s if tickets else 0.0
        return Queue(tokens=tuple(t.tokens for t in tickets), oldest_wait_s=oldest)

    def _retry_elsewhere(self) -> None:
        """Requests that a worker has failed go to another at once; they have waited enough."""
        for ticket in [t for t in self._queue.values() if t.avoid]:
            serving = self._serving()
            others = [b for b in serving if b.target.name not in ticket.avoid] or serving
            if others:
                self._grant(ticket, min(others, key=lambda b: b.num_running))

    def _release(self, name: str, count: int, reason: str) -> None:
        backend = self._backends().named(name)
        self.last_reason = reason
        self._metrics.released.labels(reason=reason).inc(count)
        fresh = (t for t in list(self._queue.values()) if not t.avoid)
        for ticket in itertools.islice(fresh, count):
            self._grant(ticket, backend)

    def _grant(self, ticket: Ticket, backend: Backend) -> None:
        del self._queue[ticket.number]
        if ticket.granted.done():
            return  # its client has gone, and its task has not run since
        self._metrics.queue_seconds.observe(self._now() - ticket.came_s)
        backend.sent(ticket.number, ticket.tokens)
        ticket.granted.set_result(backend)

    def _retry_after_s(self) -> int:
        """As long as the oldest has waited by now: so fast does the queue move."""
        oldest = next(iter(self._queue.values()))
        return max(1, round(self._now() - oldest.came_s))
