"""The router as an ASGI application: the proxy, and the router's own routes behind it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from seesaw_core.router_messages import VERSION, RoutedWorker, RouterState, WorkerKind
from seesaw_core.routing.ejection import Outcome
from seesaw_core.writing import as_json
from seesaw_router.dispatch.backend import Backend, Target
from seesaw_router.dispatch.backends import Backends
from seesaw_router.dispatch.connections import open_connections
from seesaw_router.dispatch.discovery import follow_service
from seesaw_router.dispatch.dispatcher import Dispatcher
from seesaw_router.dispatch.following import Pace, follow
from seesaw_router.metrics import Metrics
from seesaw_router.server.clients import Clients
from seesaw_router.server.exchange import App
from seesaw_router.server.proxy import Proxy
from seesaw_router.settings import RouterSettings

logger = logging.getLogger(__name__)


class Router:
    """One router and its parts. Connections exist only while the application runs."""

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        self._metrics = Metrics(self._registry)
        self._running: Backends | None = None
        self.clients = Clients(
            settings.limits,
            on_refused=self._metrics.count_status,
            on_given_up=self._metrics.untaken.inc,
        )
        self._helpers: list[asyncio.Task[None]] = []
        self.dispatcher = Dispatcher(
            policy=settings.policy,
            backends=self._backends,
            max_queued=settings.max_queued,
            max_unserved_s=settings.max_unserved_s,
            metrics=self._metrics,
        )

    def app(self) -> App:
        """Builds the ASGI application. Call it once."""
        own = FastAPI(
            title="Seesaw router",
            lifespan=self._lifespan,
            openapi_url=None,  # it would list only the router's own routes
        )

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

        @own.get("/load")
        async def load() -> dict[str, float]:
            """Reports what vLLM's route of this name does, summed over all workers."""
            return {"server_load": sum(b.num_running for b in self._backends().all())}

        @own.get("/seesaw/state")
        async def state() -> dict[str, Any]:
            return as_json(self._state())

        return Proxy(
            own,
            settings=self._settings,
            dispatcher=self.dispatcher,
            backends=self._backends,
            metrics=self._metrics,
            bodies=self.clients.bodies,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        async with open_connections() as connections:
            pace = Pace(dead_s=self._settings.max_worker_silence_s)
            backends = self._running = Backends(
                connections,
                follow=partial(follow, pace=pace),
                on_change=self.dispatcher.kick,
                ejection=self._settings.ejection,
            )
            self._helpers = [
                asyncio.create_task(self.dispatcher.run()),
                asyncio.create_task(self.clients.watch()),
            ]
            if self._settings.service is None:
                backends.set_targets(Target(name=url, url=url) for url in self._settings.workers)
            else:
                watching = follow_service(self._settings.service, backends.set_targets)
                self._helpers.append(asyncio.create_task(watching))
            for helper in self._helpers:
                helper.add_done_callback(_log_end)
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
        ejections = [self._backends().ejection(b) for b in everyone]
        for outcome in (Outcome.FAILED, Outcome.REFUSED):
            count = sum(e is not None and e.outcome is outcome for e in ejections)
            self._metrics.ejected.labels(reason=outcome).set(count)
        self._metrics.queued.set(len(self.dispatcher))
        self._metrics.show_pools({b.target.name: b.pool for b in everyone})

    def _state(self) -> RouterState:
        return RouterState(
            version=VERSION,
            queued=len(self.dispatcher),
            last_step=self.dispatcher.last_reason,
            workers=tuple(self._state_of(backend) for backend in self._backends().all()),
        )

    def _state_of(self, backend: Backend) -> RoutedWorker:
        ejection = self._backends().ejection(backend)
        pool = backend.pool
        return RoutedWorker(
            name=backend.target.name,
            url=backend.target.url,
            kind=WorkerKind.STATIC if backend.is_static else WorkerKind.SEESAW,
            serving=backend.is_serving,
            reason=backend.why_not_serving,
            going=backend.target.is_draining,
            standing=self._backends().standing(backend),
            ejected=None if ejection is None else str(ejection),
            running=backend.num_running,
            mode=backend.mode,
            phase=backend.phase,
            capacity_tokens=None if pool is None else pool.capacity_tokens,
            free_tokens=None if pool is None else pool.free_tokens,
            queued_tokens=None if pool is None else pool.queued_tokens,
        )


def _log_end(helper: "asyncio.Task[None]") -> None:
    """Log that a helper has ended, which none should. ``/health`` reports it to probes."""
    if not helper.cancelled():
        logger.error("a part of the router has ended", exc_info=helper.exception())
