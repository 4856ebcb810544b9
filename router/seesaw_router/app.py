"""The router as an ASGI application: its own routes, and the proxy around them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from seesaw_router.backends import Backends, Target
from seesaw_router.connections import open_connections
from seesaw_router.discovery import follow_service
from seesaw_router.dispatcher import Dispatcher
from seesaw_router.exchange import App
from seesaw_router.following import follow
from seesaw_router.metrics import Metrics
from seesaw_router.proxy import Proxy
from seesaw_router.settings import RouterSettings

logger = logging.getLogger(__name__)


class Router:
    """One router: its connections, which exist while the application runs, and its parts."""

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry)
        self._running: Backends | None = None
        self._helpers: list[asyncio.Task[None]] = []
        self.dispatcher = Dispatcher(
            policy=settings.policy,
            backends=self._backends,
            max_queued=settings.max_queued,
            metrics=self._metrics,
        )

    def app(self) -> App:
        """The ASGI application. Once."""
        own = FastAPI(title="Seesaw router", lifespan=self._lifespan)

        @own.get("/health")
        async def health() -> Response:
            broken = [h for h in self._helpers if h.done()]
            detail = f"broken: {broken[0]!r}" if broken else "ok"
            return JSONResponse({"status": detail}, status_code=503 if broken else 200)

        @own.get("/ready")
        async def ready() -> Response:
            is_ready = bool(self._backends().serving())
            detail = "ready" if is_ready else "no worker serves"
            return JSONResponse({"status": detail}, status_code=200 if is_ready else 503)

        @own.get("/metrics")
        async def metrics() -> Response:
            self._refresh()
            return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

        @own.get("/seesaw/state")
        async def state() -> dict[str, Any]:
            return self._state()

        return Proxy(
            own,
            settings=self._settings,
            dispatcher=self.dispatcher,
            backends=self._backends,
            metrics=self._metrics,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with open_connections() as connections:
            backends = self._running = Backends(
                connections,
                follow=partial(follow, pace=self._settings.pace),
                on_change=self.dispatcher.kick,
            )
            self._helpers = [asyncio.create_task(self.dispatcher.run())]
            if self._settings.service is None:
                backends.become(Target(name=url, url=url) for url in self._settings.workers)
            else:
                found = follow_service(self._settings.service, backends.become)
                self._helpers.append(asyncio.create_task(found))
            for helper in self._helpers:
                helper.add_done_callback(_tell_end)
            try:
                yield
            finally:
                for helper in self._helpers:
                    helper.cancel()
                await backends.close()

    def _backends(self) -> Backends:
        assert self._running is not None, "the application runs"
        return self._running

    def _refresh(self) -> None:
        everyone = self._backends().all()
        serving = sum(b.is_serving for b in everyone)
        self._metrics.workers.labels(serving="true").set(serving)
        self._metrics.workers.labels(serving="false").set(len(everyone) - serving)
        self._metrics.queued.set(len(self.dispatcher))

    def _state(self) -> dict[str, Any]:
        workers = [
            {
                "name": b.target.name,
                "url": b.target.url,
                "serving": b.is_serving,
                "reason": b.why_not_serving,
                "kind": "static" if b.is_static else "seesaw",
                "going": b.target.is_going,
                "running": b.num_running,
                "phase": b.state.phase if b.state else None,
            }
            for b in self._backends().all()
        ]
        return {
            "queued": len(self.dispatcher),
            "last_step": self.dispatcher.last_reason,
            "workers": workers,
        }


def _tell_end(helper: "asyncio.Task[None]") -> None:
    """None of them ends by itself: ``/health`` tells, and whoever probes it starts a new router."""
    if not helper.cancelled():
        logger.error("a part of the router has ended", exc_info=helper.exception())
