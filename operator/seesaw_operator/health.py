"""``/healthz`` for probes and ``/metrics`` for Prometheus.

Anybody in the cluster may connect, so the number and the age of connections are bounded.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum

from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from seesaw_flags.listening import bind, listening, raised_open_files

_MAX_CONNECTIONS = 100
_CONNECTION_S = 10.0
_CHECK_EVERY_S = 0.5


class ReconcileResult(StrEnum):
    """How a reconcile ended."""

    DONE = "done"
    FAILED = "failed"


class Metrics:
    """The operator's own metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.reconciles = Histogram(
            "seesaw_operator_reconcile_seconds",
            "Seconds that a reconcile took, by result: done, failed.",
            ["result"],
            registry=registry,
        )
        self.writes = Counter(
            "seesaw_operator_api_writes",
            "Writes to the Kubernetes API, by kind of object.",
            ["kind"],
            registry=registry,
        )
        self.leads = Gauge(
            "seesaw_operator_leads", "1 while this operator holds the Lease.", registry=registry
        )


@asynccontextmanager
async def served(registry: CollectorRegistry, port: int) -> AsyncIterator[None]:
    """Serve both routes while the context is open.

    The operator is healthy as long as its event loop runs, since it exits on errors that it cannot
    recover from. Raises: InputError if the port is not available.
    """
    began_s = time.monotonic()

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"up_s": round(time.monotonic() - began_s)})

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    raised_open_files()  # connections to us must not exhaust the files for Kubernetes
    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    assert runner.server is not None
    bounding = asyncio.create_task(_bound_connections(runner.server))
    try:
        for listener in bind(port):
            with listening(port):
                await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
        bounding.cancel()


async def _bound_connections(server: web.Server) -> None:
    """Close old connections, and the oldest ones if there are too many."""
    since: dict[web.RequestHandler, float] = {}
    while True:
        await asyncio.sleep(_CHECK_EVERY_S)
        now = time.monotonic()
        since = {each: since.get(each, now) for each in server.connections}
        in_order = sorted(since, key=since.__getitem__)
        too_many = in_order[: max(0, len(in_order) - _MAX_CONNECTIONS)]
        for each in {*too_many, *(e for e in in_order if now - since[e] > _CONNECTION_S)}:
            if each.transport is not None:
                each.transport.abort()  # whether or not the client reads
