"""Who connects to the operator's port cannot keep others from it."""

import asyncio
import contextlib
import time

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from seesaw_cli.serve.local import free_port
from seesaw_operator import health


async def test_silent_connections_are_closed_and_do_not_keep_probes_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "_CONNECTION_S", 2.0)
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(health.served(CollectorRegistry(), port))
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
        for _, writer in silent:
            stack.callback(writer.close)
        begun = time.monotonic()
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port}/healthz") as response,
        ):
            assert response.status == 200
        first, last = (silent[i][0].read() for i in (0, -1))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(first, 1.5) == b""  # one of too many
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(last, 4.0) == b""
        assert time.monotonic() - begun >= 1.5, "a connection has its time"
