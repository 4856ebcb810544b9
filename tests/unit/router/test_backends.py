"""Workers come and go; what a vanished one still owes is broken off."""

import asyncio
import logging
from functools import partial

import pytest
from aiohttp.test_utils import TestServer

from seesaw_router.dispatch.backend import Backend, Target
from seesaw_router.dispatch.backends import Backends
from seesaw_router.dispatch.connections import Connections, open_connections
from seesaw_router.dispatch.following import Pace, follow
from support.fake_worker.engine import Engine, application


def known(url: str, connections: Connections, pace: Pace) -> Backends:
    backends = Backends(connections, follow=partial(follow, pace=pace), on_change=lambda: None)
    backends.set_targets([Target(name="a", url=url.rstrip("/"))])
    return backends


async def until_serving(backends: Backends) -> Backend:
    async with asyncio.timeout(5):
        while not backends.serving():
            await asyncio.sleep(0.01)
    return backends.named("a")


async def stream(backend: Backend, begun: asyncio.Event) -> None:
    body = {"prompt": "x", "max_tokens": 5000, "stream": True}
    url = f"{backend.target.url}/v1/completions"
    async with backend.in_flight(), backend.connections.requests.post(url, json=body) as response:
        async for _ in response.content:
            begun.set()


async def test_a_worker_that_is_known_no_more_ends_what_it_was_asked() -> None:
    engine = Engine("m", 0.01)
    async with TestServer(application(engine)) as server, open_connections() as connections:
        backends = known(str(server.make_url("")), connections, Pace())
        backend = await until_serving(backends)
        begun = asyncio.Event()
        asking = asyncio.create_task(stream(backend, begun))
        await begun.wait()
        backends.set_targets([])
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(2):
                await asking
        await backends.close()


async def test_a_worker_that_drains_takes_nothing_new_and_ends_what_it_has() -> None:
    engine = Engine("m", 0.0001)
    async with TestServer(application(engine)) as server, open_connections() as connections:
        backends = known(str(server.make_url("")), connections, Pace())
        backend = await until_serving(backends)
        begun = asyncio.Event()
        asking = asyncio.create_task(stream(backend, begun))
        await begun.wait()
        backends.set_targets([Target(name="a", url=backend.target.url, is_draining=True)])
        assert not backends.serving()
        async with asyncio.timeout(30):
            await asking
        await backends.close()


async def test_a_worker_whose_node_vanished_is_broken_off_after_a_while() -> None:
    """A server that takes connections and says nothing any more stands for a lost node."""
    pace = Pace(silence_s=0.5, dead_s=1.0, retry_s=0.05)
    engine = Engine("m", 0.01)
    async with TestServer(application(engine)) as server, open_connections() as connections:
        proxy = await asyncio.start_server(lambda r, w: pipe(r, w, server.port), "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        backends = known(f"http://127.0.0.1:{port}", connections, pace)
        backend, begun = await until_serving(backends), asyncio.Event()
        backend.sent(1, 10)
        asking = asyncio.create_task(stream(backend, begun))
        await begun.wait()
        vanished.set()
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(5):
                await asking
        assert not backends.serving()
        vanished.clear()
        await backends.close()
        proxy.close()


vanished = asyncio.Event()


async def pipe(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int | None
) -> None:
    """A cable to a server, until it is cut without a word."""
    up, down = await asyncio.open_connection("127.0.0.1", port)

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            while vanished.is_set():
                await asyncio.sleep(0.05)
            target.write(data)

    ways = [asyncio.create_task(carry(reader, down)), asyncio.create_task(carry(up, writer))]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    writer.close()
    down.close()


async def test_what_is_wrong_is_told_once_a_minute_and_at_the_latest_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s = 0.0
    caplog.set_level(logging.INFO)
    async with open_connections() as connections:
        target = Target(name="a", url="http://a:1")
        backend = Backend(target, connections, on_change=lambda: None, clock=lambda: now_s)
        for second in range(150):
            now_s = float(second)
            if 5 <= second < 20:
                backend.mark_static()
            else:
                backend.mark_lost(f"it cannot be reached: attempt {second}")
    assert [record.getMessage() for record in caplog.records] == [
        "worker a does not serve: it cannot be reached: attempt 0",
        "worker a serves",
        "worker a does not serve: it cannot be reached: attempt 60",
        "worker a does not serve: it cannot be reached: attempt 120",
    ]
