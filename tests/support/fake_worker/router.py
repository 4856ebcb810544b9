"""A real router in a separate process, in front of any workers."""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import IO, Any

import aiohttp
import psutil
from yarl import URL

from seesaw_cli.serve.local import free_port
from seesaw_core.reading import read_router_state
from seesaw_core.router_messages import RoutedWorker, RouterState
from support.fake_worker.odd import OddWorker

BODY = {"model": "stand-in", "prompt": "x", "max_tokens": 4}


async def router_state_of(http: aiohttp.ClientSession, url: str) -> RouterState:
    """What a router reports."""
    async with http.get(f"{url}/seesaw/state") as response:
        return read_router_state(await response.read())


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Sends requests to a router, and reads its state."""

    url: str
    http: aiohttp.ClientSession
    log: IO[bytes]
    process: asyncio.subprocess.Process

    @property
    def memory_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    @property
    def num_clients(self) -> int:
        """The connections that the router has accepted."""
        connections = psutil.Process(self.process.pid).net_connections(kind="tcp")
        port = URL(self.url).port
        return sum(c.status == "ESTABLISHED" and c.laddr.port == port for c in connections)

    async def ask(self, **more: Any) -> tuple[int, bytes]:
        async with self.http.post(f"{self.url}/v1/completions", json=BODY | more) as response:
            return response.status, await response.read()

    async def workers(self) -> dict[str, RoutedWorker]:
        """Return the router's state of each worker, by its URL."""
        state = await router_state_of(self.http, self.url)
        return {worker.url: worker for worker in state.workers}

    async def until_serving(self, *urls: str) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                known = await self.workers()
                if all(known[url].serving for url in urls):
                    return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{urls} do not serve: {self.logged()}")

    async def metric(self, start: str) -> float:
        """Return the sum of all samples whose line has this start."""
        async with self.http.get(f"{self.url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Return the router's exit code once it has ended."""
        return await self.process.wait()

    def logged(self) -> str:
        self.log.seek(0)
        return self.log.read().decode()


@asynccontextmanager
async def router_before(*urls: str, flags: tuple[str, ...] = ()) -> AsyncIterator[Router]:
    """Run a router, end it after the test, and check its log for tracebacks."""
    port = free_port()
    command = [sys.executable, "-m", "seesaw_cli.main", "router", f"--port={port}"]
    workers = [f"--worker={url}" for url in urls]
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *command, *workers, *flags, stdout=log, stderr=log
        )
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        try:
            async with aiohttp.ClientSession(connector=connector) as http:
                router = Router(url=f"http://127.0.0.1:{port}", http=http, log=log, process=process)
                await router.until_serving()
                yield router
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        assert "Traceback" not in router.logged(), router.logged()


@asynccontextmanager
async def routed(
    *workers: OddWorker, flags: tuple[str, ...] = (), is_served: bool = True
) -> AsyncIterator[Router]:
    """Run these workers and a router in front of them."""
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker.running())
        urls = [w.url for w in workers]
        router = await stack.enter_async_context(router_before(*urls, flags=flags))
        if is_served:
            await router.until_serving(*urls)
        yield router
