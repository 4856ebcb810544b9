"""Sends a request to one worker after another until one answers, and passes the answer back.

A request that was never sent may go elsewhere freely. A request whose worker was lost is retried
only once: it may be what killed the worker, and must not kill all of them. Once an answer has
begun, it can only be aborted.
"""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable
from functools import partial

import aiohttp

from seesaw_core.routing.ejection import Outcome, outcome_of
from seesaw_router.dispatch.backend import Backend
from seesaw_router.dispatch.backends import Backends
from seesaw_router.dispatch.dispatcher import Dispatcher
from seesaw_router.dispatch.tickets import NoWorkerError, Placed, QueueFullError
from seesaw_router.metrics import Metrics
from seesaw_router.server.answers import pass_back
from seesaw_router.server.exchange import Exchange, refuse
from seesaw_router.server.failures import Failure, WorkerError
from seesaw_router.server.routes import RESPONSES
from seesaw_router.server.stored_responses import StoredResponses
from seesaw_router.server.worker_call import WorkerCall
from seesaw_router.settings import RouterSettings

logger = logging.getLogger(__name__)

_UNAVAILABLE = {502, 503, 504}
_RETRIED_ELSEWHERE = frozenset({Outcome.FAILED, Outcome.DECLINED})
_MAX_LOST = 2  # attempts that end while a worker has the request
_HEALTH_TIMEOUT_S = 2.0
_RETRY_AFTER_S = 5


class Attempts:
    """Has workers answer requests. One object serves all requests."""

    def __init__(
        self,
        *,
        settings: RouterSettings,
        dispatcher: Dispatcher,
        backends: Callable[[], Backends],
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._dispatcher = dispatcher
        self._backends = backends
        self._metrics = metrics
        self._stored = StoredResponses()
        self._numbers = itertools.count(1)

    async def carry(self, exchange: Exchange) -> None:
        """Have a worker answer a request, or refuse it."""
        try:
            await self._carry(exchange)
        except QueueFullError as error:
            self._metrics.refused.inc()
            message = "too many requests wait; try again later"
            await _refuse(exchange, 429, message, error.retry_after_s)
        except NoWorkerError as error:
            self._metrics.unserved.inc()
            await _refuse(exchange, 503, str(error), _RETRY_AFTER_S)
        except WorkerError as error:
            if not exchange.has_begun:
                await _refuse(exchange, 502, str(error))
                return
            # Returning without the end of the answer closes the connection: the client sees it.
            self._metrics.broken.inc()
            logger.warning("an answer is aborted: %s", error)

    async def _carry(self, exchange: Exchange) -> None:
        """Try workers in turn. Raises: QueueFullError, NoWorkerError, or WorkerError in the end."""
        avoid: frozenset[str] = frozenset()
        num_lost = 0
        for attempt in range(1, self._settings.max_attempts + 1):
            is_last = attempt == self._settings.max_attempts
            try:
                with await self._place(exchange, avoid) as placed:
                    avoid |= {placed.backend.target.name}
                    await self._try(exchange, placed, avoid, is_last=is_last)
                    return
            except WorkerError as error:
                num_lost += error.failure.had_request
                if exchange.has_begun or is_last:
                    raise
                if num_lost >= _MAX_LOST:
                    raise error.given_up_after(num_lost) from error
                self._metrics.retries.inc()
                logger.info("request is retried (%d): %s", attempt, error)

    async def _place(self, exchange: Exchange, avoid: frozenset[str]) -> Placed:
        """Returns a worker: when its turn comes, or at once for requests that cost little."""
        stored = exchange.route.id or exchange.request.previous_response_id
        owner = await self._owner(exchange, stored, avoid) if stored else None
        if owner is not None:
            return self._place_now(owner, exchange.request.tokens, is_pinned=True)
        if exchange.generates:
            return await self._dispatcher.place(exchange.request, avoid)
        trusted = self._backends().trusted()
        others = [b for b in trusted if b.target.name not in avoid] or trusted
        if not others:
            raise NoWorkerError(self._backends().why_none_serves())
        return self._place_now(min(others, key=lambda b: b.num_busy), 0)

    def _place_now(self, backend: Backend, tokens: int, *, is_pinned: bool = False) -> Placed:
        """Place a request at a worker at once, without queueing."""
        number = -next(self._numbers)
        backend.sent(number, tokens)
        return Placed(backend=backend, end=partial(backend.ended, number), is_pinned=is_pinned)

    async def _owner(
        self, exchange: Exchange, response_id: str, avoid: frozenset[str]
    ) -> Backend | None:
        """Returns the worker that alone can answer, since it keeps the stored response."""
        trusted = [b for b in self._backends().trusted() if b.target.name not in avoid]
        if not trusted:
            return None
        return await self._stored.owner(response_id, trusted, exchange.headers)

    def _is_another(self, avoid: frozenset[str]) -> bool:
        return any(b.target.name not in avoid for b in self._backends().trusted())

    async def _try(
        self, exchange: Exchange, placed: Placed, tried: frozenset[str], *, is_last: bool
    ) -> None:
        """Make one attempt, and record its outcome. Raises: WorkerError."""
        backend, began_s = placed.backend, time.monotonic()
        try:
            async with WorkerCall(exchange, backend, self._settings.max_answer_silence_s) as call:
                status = call.response.status
                outcome = outcome_of(status)
                if outcome in _RETRIED_ELSEWHERE and not is_last and self._is_another(tried):
                    await self._judge(placed, status)
                if not placed.is_pinned and outcome is not Outcome.ANSWERED:
                    self._backends().observe(backend, outcome)
                learn = None
                if exchange.route.template == RESPONSES:
                    learn = partial(self._stored.learn, worker=backend.target.name)
                await pass_back(exchange, call, learn)
        except WorkerError as error:
            self._metrics.failures.labels(worker=backend.target.name, reason=error.failure).inc()
            if not placed.is_pinned:
                self._backends().observe(backend, Outcome.FAILED)
            if error.failure in (Failure.UNREACHED, Failure.LOST):
                backend.check_health()
            raise
        # Only now, since an answer may be cut short.
        if not placed.is_pinned and outcome is Outcome.ANSWERED:
            took_s = time.monotonic() - began_s if exchange.generates else None
            self._backends().observe(backend, outcome, took_s)

    async def _judge(self, placed: Placed, status: int) -> None:
        """Raise WorkerError if an error of this status is the worker's fault."""
        backend = placed.backend
        if status in _UNAVAILABLE:
            raise WorkerError(backend, Failure.UNAVAILABLE, f"answered {status}")
        if placed.is_trial:
            raise WorkerError(backend, Failure.ERROR, f"answered {status} in its trial")
        if status == 500 and not await _is_healthy(backend):
            raise WorkerError(backend, Failure.LOST, "answered 500 and is no longer healthy")


async def _is_healthy(backend: Backend) -> bool:
    """Returns whether a worker is healthy, so that an error concerns only its request."""
    timeout = aiohttp.ClientTimeout(total=_HEALTH_TIMEOUT_S)
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with backend.connections.control.get(
            f"{backend.target.url}/health", timeout=timeout
        ) as response:
            return response.status == 200
    return False


async def _refuse(
    exchange: Exchange, status: int, message: str, retry_after_s: int | None = None
) -> None:
    exchange.status = status
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if retry_after_s is not None:
        headers = ((b"retry-after", str(retry_after_s).encode()),)
    await refuse(exchange.send, status, message, headers=headers)
