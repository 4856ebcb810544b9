"""Sends one request to workers until one has answered, and passes its answer back as it comes.

A request whose worker is lost before the answer has begun is sent again to another: nothing of
it has reached the client, and a worker that is lost has nothing left to undo.
"""

import contextlib
import logging
from collections.abc import Callable

import aiohttp

from seesaw_router.backends import Backend, Backends
from seesaw_router.dispatcher import Dispatcher, QueueFullError
from seesaw_router.exchange import HOP_BY_HOP, Exchange, refuse
from seesaw_router.metrics import Metrics
from seesaw_router.settings import RouterSettings

logger = logging.getLogger(__name__)

_RETRIED_STATUS = {502, 503, 504}
_LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError)
_HEALTH_TIMEOUT_S = 2.0


class WorkerLostError(Exception):
    """The worker is gone, and the answer has not begun."""


class Attempts:
    """Carries requests to workers. Shared by all requests."""

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

    async def carry(self, exchange: Exchange) -> None:
        avoid: frozenset[str] = frozenset()
        for attempt in range(1, self._settings.max_attempts + 1):
            is_last = attempt == self._settings.max_attempts
            try:
                if not exchange.generates:
                    await self._ask_any(exchange, avoid)
                    return
                async with self._dispatcher.place(exchange.tokens, avoid) as backend:
                    avoid |= {backend.target.name}
                    await self._ask(exchange, backend, may_retry=not is_last)
                    return
            except QueueFullError as error:
                self._metrics.refused.inc()
                exchange.status = 429
                await refuse(
                    exchange.send,
                    429,
                    "too many requests wait; try again later",
                    headers=((b"retry-after", str(error.retry_after_s).encode()),),
                )
                return
            except WorkerLostError as error:
                self._metrics.retries.inc()
                logger.info("request is tried again (%d): %s", attempt, error)
        exchange.status = 502
        await refuse(exchange.send, 502, "the workers that had this request were lost")

    async def _ask_any(self, exchange: Exchange, avoid: frozenset[str]) -> None:
        """For what costs a worker next to nothing."""
        serving = [b for b in self._backends().serving() if b.target.name not in avoid]
        if not serving:
            exchange.status = 503
            await refuse(exchange.send, 503, "no worker serves at the moment")
            return
        await self._ask(exchange, min(serving, key=lambda b: b.num_running), may_retry=True)

    async def _ask(self, exchange: Exchange, backend: Backend, *, may_retry: bool) -> None:
        """One attempt. Raises: WorkerLostError if it may be made again elsewhere."""
        try:
            async with (
                backend.asked(),
                backend.connections.requests.request(
                    exchange.method,
                    backend.target.url + exchange.target,
                    data=exchange.body or None,
                    headers=exchange.headers,
                    allow_redirects=False,
                ) as response,
            ):
                if may_retry and await self._is_lost(response, backend):
                    backend.doubt()
                    raise WorkerLostError(f"{backend.target.name} answered {response.status}")
                await self._pass_back(exchange, response)
        except _LOST as error:
            if not exchange.has_begun:
                backend.doubt()
                if may_retry:
                    raise WorkerLostError(f"{backend.target.name}: {error!r}") from error
                exchange.status = 502
                await refuse(exchange.send, 502, f"worker {backend.target.name} was lost")
                return
            # The answer has begun: only by breaking it off can the client be told.
            self._metrics.broken.inc()
            logger.warning("worker %s was lost in the middle of an answer", backend.target.name)
            raise

    async def _is_lost(self, response: aiohttp.ClientResponse, backend: Backend) -> bool:
        if response.status in _RETRIED_STATUS:
            return True
        return response.status == 500 and not await self._is_healthy(backend)

    async def _is_healthy(self, backend: Backend) -> bool:
        """Whether an error is the request's own, or the worker's end."""
        timeout = aiohttp.ClientTimeout(total=_HEALTH_TIMEOUT_S)
        with contextlib.suppress(*_LOST, TimeoutError):
            async with backend.connections.control.get(
                f"{backend.target.url}/health", timeout=timeout
            ) as response:
                return response.status == 200
        return False

    async def _pass_back(self, exchange: Exchange, response: aiohttp.ClientResponse) -> None:
        """The answer, chunk by chunk as it comes; a short one in one piece.

        A short answer is begun only when it is there as a whole, so that it can still be had
        elsewhere.
        """
        headers = [
            (name, value) for name, value in response.raw_headers if name.lower() not in HOP_BY_HOP
        ]
        if response.content_length is not None:
            body = await response.read()
            headers.append((b"content-length", str(len(body)).encode()))
            await exchange.begin(response.status, headers)
            await exchange.send({"type": "http.response.body", "body": body})
            return
        send, chunks = exchange.send, response.content
        first = await chunks.readany()
        await exchange.begin(response.status, headers)
        chunk = first
        while chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await chunks.readany()
        await send({"type": "http.response.body", "body": b""})
