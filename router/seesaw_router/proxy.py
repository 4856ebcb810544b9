"""Passes requests on to workers, unchanged, and their answers back as they come.

A request whose worker is lost before the answer has begun is sent again to another: nothing of
it has reached the client, and a worker that is lost has nothing left to undo. A client that goes
away ends its request at the worker.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
from multidict import CIMultiDict

from seesaw_router.backends import Backend, Backends
from seesaw_router.dispatcher import Dispatcher, QueueFullError
from seesaw_router.metrics import Metrics
from seesaw_router.settings import RouterSettings

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PASSED = ("/v1/", "/inference/", "/tokenize", "/detokenize", "/version")
_UNGENERATED = ("/tokenize", "/detokenize", "/count_tokens", "/render")
_HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"host",
    b"content-length",
    b"expect",
}
_BYTES_PER_TOKEN = 4  # of a request's body: text in JSON, or token ids with their commas
_RETRIED_STATUS = {502, 503, 504}
_LOST = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, ConnectionError)
_HEALTH_TIMEOUT_S = 2.0


class WorkerLostError(Exception):
    """The worker is gone, and the answer has not begun."""


class Proxy:
    """ASGI middleware: takes the paths of the OpenAI API, and leaves the others to ``app``."""

    def __init__(
        self,
        app: App,
        *,
        settings: RouterSettings,
        dispatcher: Dispatcher,
        backends: Callable[[], Backends],
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._settings = settings
        self._dispatcher = dispatcher
        self._backends = backends
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_PASSED):
            await self._app(scope, receive, send)
            return
        body = await self._read(receive)
        if body is None:
            await _refuse(
                send,
                413,
                f"the request is larger than {self._settings.max_body_bytes} bytes; raise the "
                "router's --max-body-bytes",
            )
            return
        exchange = _Exchange(scope, body, send)
        watcher = asyncio.create_task(_cancel_at_disconnect(receive, asyncio.current_task()))
        self._metrics.running.inc()
        try:
            await self._carry(exchange)
        except asyncio.CancelledError:
            if not watcher.done():
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            exchange.status = 499
        finally:
            watcher.cancel()
            self._metrics.running.dec()
            self._metrics.requests.labels(status=str(exchange.status)).inc()

    async def _read(self, receive: Receive) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b"".join(parts)
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._settings.max_body_bytes:
                return None
            if not message.get("more_body", False):
                return b"".join(parts) if len(parts) > 1 else parts[0]

    async def _carry(self, exchange: "_Exchange") -> None:
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
                await _refuse(
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
        await _refuse(exchange.send, 502, "the workers that had this request were lost")

    async def _ask_any(self, exchange: "_Exchange", avoid: frozenset[str]) -> None:
        """For what costs a worker next to nothing."""
        serving = [b for b in self._backends().serving() if b.target.name not in avoid]
        if not serving:
            exchange.status = 503
            await _refuse(exchange.send, 503, "no worker serves at the moment")
            return
        await self._ask(exchange, min(serving, key=lambda b: b.num_running), may_retry=True)

    async def _ask(self, exchange: "_Exchange", backend: Backend, *, may_retry: bool) -> None:
        """One attempt. Raises: WorkerLostError if it may be made again elsewhere."""
        try:
            async with (
                backend.asked(),
                backend.http.request(
                    exchange.method,
                    backend.target.url + exchange.target,
                    data=exchange.body or None,
                    headers=exchange.headers,
                    allow_redirects=False,
                ) as response,
            ):
                if may_retry and await self._is_lost(response, backend):
                    backend.lost()
                    raise WorkerLostError(f"{backend.target.name} answered {response.status}")
                await self._pass_back(exchange, response)
        except _LOST as error:
            if not exchange.has_begun:
                backend.lost()
                if may_retry:
                    raise WorkerLostError(f"{backend.target.name}: {error!r}") from error
                exchange.status = 502
                await _refuse(exchange.send, 502, f"worker {backend.target.name} was lost")
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
            async with backend.http.get(
                f"{backend.target.url}/health", timeout=timeout
            ) as response:
                return response.status == 200
        return False

    async def _pass_back(self, exchange: "_Exchange", response: aiohttp.ClientResponse) -> None:
        """The answer, chunk by chunk as it comes; a short one in one piece.

        A short answer is begun only when it is there as a whole, so that it can still be had
        elsewhere.
        """
        headers = [
            (name, value) for name, value in response.raw_headers if name.lower() not in _HOP_BY_HOP
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


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, body: bytes, send: Send) -> None:
        self.method: str = scope["method"]
        query = scope["query_string"].decode("latin-1")
        raw = scope.get("raw_path") or scope["path"].encode()
        path = raw.decode("latin-1").partition("?")[0]
        self.target = f"{path}?{query}" if query else path
        self.headers = CIMultiDict(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name.lower() not in _HOP_BY_HOP
        )
        self.body = body
        self.send = send
        self.has_begun = False
        self.status = 0

    @property
    def generates(self) -> bool:
        return self.method == "POST" and not self.target.partition("?")[0].endswith(_UNGENERATED)

    @property
    def tokens(self) -> int:
        """About how many tokens the prompt has. Exactly is for the worker to know."""
        return max(1, len(self.body) // _BYTES_PER_TOKEN)

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun, self.status = True, status
        await self.send({"type": "http.response.start", "status": status, "headers": headers})


async def _cancel_at_disconnect(receive: Receive, task: "asyncio.Task[Any] | None") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if task is not None:
        task.cancel()


async def _refuse(
    send: Send, status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """An error in OpenAI's form."""
    import json

    kind = {429: "rate_limit_error", 413: "invalid_request_error"}.get(status, "server_error")
    error = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    body = json.dumps(error).encode()
    start = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
