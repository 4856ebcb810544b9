"""The endpoint: reads requests to vLLM's API in full, and passes them to workers.

If a client leaves, its request at the worker is cancelled.
"""

import asyncio
from collections.abc import Callable
from email.utils import formatdate

from seesaw_router.dispatch.backends import Backends
from seesaw_router.dispatch.dispatcher import Dispatcher
from seesaw_router.limits import BodyBudget
from seesaw_router.metrics import Metrics
from seesaw_router.server.attempts import Attempts
from seesaw_router.server.exchange import (
    App,
    Exchange,
    Leaving,
    Message,
    Receive,
    Scope,
    Send,
    refuse,
)
from seesaw_router.server.headers import HeaderError, to_worker
from seesaw_router.server.routes import OWN, Match, UnroutableError, match
from seesaw_router.server.uploads import Upload, UploadError
from seesaw_router.settings import RouterSettings

_CLOSE = (b"connection", b"close")
_RETRY_AFTER = (b"retry-after", b"5")
_SHUTTING_DOWN = "the router is shutting down; try again"


class Proxy:
    """ASGI application that forwards vLLM's routes, and leaves the router's own to ``app``.

    Requires: scopes with the extension :class:`Leaving`, which :class:`ClientProtocol` adds.
    """

    def __init__(
        self,
        app: App,
        *,
        settings: RouterSettings,
        dispatcher: Dispatcher,
        backends: Callable[[], Backends],
        metrics: Metrics,
        bodies: BodyBudget,
    ) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._bodies = bodies
        self._attempts = Attempts(
            settings=settings, dispatcher=dispatcher, backends=backends, metrics=metrics
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        path = scope["raw_path"].decode("ascii")
        if path in OWN:
            await self._app(scope, receive, _dated(send))
            return
        upload = Upload(self._bodies, self._settings.max_body_bytes)
        self._metrics.running.inc()
        status = 500
        try:
            route = match(scope["method"], path)
            status = await self._pass(scope, route, upload, receive, send)
        except UnroutableError as error:
            status = error.status
            allow = ((b"allow", ", ".join(sorted(error.allow)).encode()),) if error.allow else ()
            await refuse(send, status, str(error), headers=(*allow, _CLOSE))
        except HeaderError as error:
            status = 400
            await refuse(send, status, str(error), headers=(_CLOSE,))
        except UploadError as error:
            status = error.status
            if status != 499:
                headers = (_CLOSE, _RETRY_AFTER) if status == 503 else (_CLOSE,)
                await refuse(send, status, str(error), headers=headers)
        finally:
            upload.release()
            self._metrics.running.dec()
            self._metrics.count_status(status)

    async def _pass(
        self, scope: Scope, route: Match, upload: Upload, receive: Receive, send: Send
    ) -> int:
        """Have a worker answer. Returns the status."""
        given = scope["headers"]
        headers = to_worker(given, scope["http_version"], scope["client"], scope["scheme"])
        declared = next((v for n, v in given if n == b"content-length"), None)
        task = asyncio.current_task()
        assert task is not None, "runs in a task"
        try:
            body = await upload.read(receive, declared)
            exchange = Exchange(scope, route, headers, body, send, release=upload.release)
            del body  # the exchange drops its body as early as it can
        except asyncio.CancelledError:
            task.uncancel()
            raise UploadError(503, _SHUTTING_DOWN) from None
        leaving: Leaving = scope["extensions"][Leaving.EXTENSION]
        leaving.set_callback(task.cancel)
        try:
            await self._attempts.carry(exchange)
        except asyncio.CancelledError:
            task.uncancel()
            if leaving.has_left:
                return 499
            if not exchange.has_begun:
                raise UploadError(503, _SHUTTING_DOWN) from None
            self._metrics.broken.inc()  # the client sees no end, as if the worker were lost
        finally:
            leaving.set_callback(None)
        return exchange.status


def _dated(send: Send) -> Send:
    """Adds a date to the router's own answers. Answers of workers have one."""

    async def dated(message: Message) -> None:
        if message["type"] == "http.response.start":
            date = (b"date", formatdate(usegmt=True).encode())
            message = {**message, "headers": [*message["headers"], date]}
        await send(message)

    return dated
