"""The queue of prompts, and the loop that executes the steps of the wave policy."""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from seesaw_core.routing.waves import Hold, Prompt, Queue, Release, WavePolicy
from seesaw_router.dispatch.backend import Backend
from seesaw_router.dispatch.backends import Backends
from seesaw_router.dispatch.parsed_request import ParsedRequest
from seesaw_router.dispatch.tickets import NoWorkerError, Placed, QueueFullError, Ticket
from seesaw_router.metrics import Metrics

logger = logging.getLogger(__name__)

_AFTER_FAILURE_S = 1.0


class Dispatcher:
    """Assigns each request to a worker when its turn comes.

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
        """Have the queue looked at again, because something has changed."""
        self._kick.set()

    async def place(self, request: ParsedRequest, avoid: frozenset[str]) -> Placed:
        """Returns a worker for a request, once its turn has come.

        Raises: QueueFullError, NoWorkerError.
        """
        if len(self._queue) >= self._max_queued:
            raise QueueFullError(self._retry_after_s())
        prompt = Prompt(id=next(self._numbers), tokens=request.tokens)
        ticket = Ticket(prompt=prompt, enqueued_s=self._now(), avoid=avoid)
        self._queue[prompt.id] = ticket
        self._kick.set()
        try:
            return await ticket.granted
        except asyncio.CancelledError:
            self._queue.pop(prompt.id, None)
            granted = ticket.granted
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().end()
            raise

    async def run(self) -> None:
        """Execute steps for ever."""
        while True:
            self._kick.clear()
            try:
                hold_s = self._step()
            except Exception:  # a bug in the router; without this loop no request is placed again
                logger.exception("a step of the dispatcher failed")
                hold_s = _AFTER_FAILURE_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(hold_s):
                    await self._kick.wait()

    def _step(self) -> float | None:
        """Release all that may go now. Returns the longest time to wait for a change."""
        while True:
            if not self._queue:
                self.last_reason = "no prompt waits"
                return None
            self._retry_elsewhere()
            self._try_ejected()
            step = self._policy.next_step(self._view(), [b.replica() for b in self._trusted()])
            match step:
                case Release():
                    self._release(step)
                case Hold(at_most_s=at_most_s, reason=reason):
                    self.last_reason = reason
                    unserved_s = self._give_up_unserved()
                    waits = [s for s in (at_most_s, unserved_s) if s is not None]
                    return min(waits, default=None)

    def _trusted(self) -> list[Backend]:
        return self._backends().trusted()

    def _view(self) -> Queue:
        tickets = [t for t in self._queue.values() if not t.avoid]
        oldest_wait_s = self._now() - tickets[0].enqueued_s if tickets else 0.0
        return Queue(prompts=tuple(t.prompt for t in tickets), oldest_wait_s=oldest_wait_s)

    def _retry_elsewhere(self) -> None:
        """Send requests that a worker failed to another one at once: they have waited before."""
        for ticket in [t for t in self._queue.values() if t.avoid]:
            trusted = self._trusted()
            others = [b for b in trusted if b.target.name not in ticket.avoid] or trusted
            able = [b for b in others if b.replica().may_hold(ticket.prompt.tokens)] or others
            if able:
                self._grant(ticket, min(able, key=lambda b: b.num_busy))

    def _try_ejected(self) -> None:
        """Send one request to an ejected worker that is due for a trial."""
        backend = self._backends().due_for_trial()
        if backend is None:
            return
        replica = backend.replica()
        new = (t for t in self._queue.values() if not t.avoid)
        ticket = next((t for t in new if replica.may_hold(t.prompt.tokens)), None)
        if ticket is not None:
            self._grant(ticket, backend, is_trial=True)

    def _give_up_unserved(self) -> float | None:
        """Refuse requests that waited too long while no worker served.

        Returns the time until the next request will have waited too long.
        """
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
            waited_s = now - max(ticket.enqueued_s, self._unserved_since_s)
            if waited_s < self._max_unserved_s:
                return self._max_unserved_s - waited_s
            del self._queue[ticket.prompt.id]
            if not ticket.granted.done():
                ticket.granted.set_exception(NoWorkerError(why, waited_s))
        return None

    def _release(self, step: Release) -> None:
        backend = self._backends().named(step.replica)
        self.last_reason = step.reason.sentence
        self._metrics.count_released(len(step.requests), step.reason)
        for request in step.requests:
            self._grant(self._queue[request], backend, is_pinned=step.left_out)

    def _grant(
        self,
        ticket: Ticket,
        backend: Backend,
        *,
        is_trial: bool = False,
        is_pinned: bool = False,
    ) -> None:
        del self._queue[ticket.prompt.id]
        if ticket.granted.done():
            return  # its client left, and its task has not run since then
        self._metrics.queue_seconds.observe(self._now() - ticket.enqueued_s)
        backend.sent(ticket.prompt.id, ticket.prompt.tokens)
        if is_trial:
            self._backends().begin_trial(backend)
        end = partial(self._end, ticket.prompt.id, backend, is_trial=is_trial)
        placed = Placed(backend=backend, end=end, is_trial=is_trial, is_pinned=is_pinned)
        ticket.granted.set_result(placed)

    def _end(self, number: int, backend: Backend, *, is_trial: bool) -> None:
        backend.ended(number)
        if is_trial:
            self._backends().end_trial(backend)
        self._kick.set()

    def _retry_after_s(self) -> int:
        """Returns the wait of the oldest request, an estimate of how fast the queue moves."""
        oldest = next(iter(self._queue.values()))
        return max(1, round(self._now() - oldest.enqueued_s))
