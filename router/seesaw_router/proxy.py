"""The endpoint: takes the requests of the OpenAI API whole, and hands them to workers.

A client that goes away ends its request at the worker.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from seesaw_router.attempts import Attempts
from seesaw_router.backends import Backends
from seesaw_router.dispatcher import Dispatcher
from seesaw_router.exchange import App, Exchange, Receive, Scope, Send, refuse
from seesaw_router.metrics import Metrics
from seesaw_router.settings import RouterSettings

_PASSED = ("/v1/", "/inference/", "/tokenize", "/detokenize", "/version")


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
        self._metrics = metrics
        self._attempts = Attempts(
            settings=settings, dispatcher=dispatcher, backends=backends, metrics=metrics
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_PASSED):
            await self._app(scope, receive, send)
            return
        body = await self._read(receive)
        if body is None:
            await refuse(
                send,
                413,
                f"the request is larger than {self._settings.max_body_bytes} bytes; raise the "
                "router's --max-body-bytes",
            )
            return
        exchange = Exchange(scope, body, send)
        del body  # the exchange lets it go once it cannot be sent again
        watcher = asyncio.create_task(_cancel_at_disconnect(receive, asyncio.current_task()))
        self._metrics.running.inc()
        try:
            await self._attempts.carry(exchange)
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


async def _cancel_at_disconnect(receive: Receive, task: "asyncio.Task[Any] | None") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if task is not None:
        task.cancel()
