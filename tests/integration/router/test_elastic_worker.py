"""``seesaw serve --elastic-instances``: a router before a real elastic worker."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from seesaw_cli.serve.local import free_port
from seesaw_core.event_stream import EventParser
from seesaw_core.messages import TimelineEvent
from seesaw_core.reading import read_event
from seesaw_core.router_messages import RoutedWorker
from seesaw_worker.synthetic import TINY, write_checkpoint
from support.fake_worker.router import router_state_of

pytestmark = pytest.mark.engine

READY_WITHIN_S = 240.0
FLAGS = (
    "--elastic-instances=2",
    "--served-model-name=tiny",
    "--dtype=float32",
    "--enforce-eager",
    "--max-model-len=1024",
    "--kv-cache-memory-bytes=8388608",
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the router."""
    folder = tmp_path_factory.mktemp("served")
    write_checkpoint(folder / "tiny", TINY)
    log, port = folder / "log", free_port()
    command = [sys.executable, "-m", "seesaw_cli.main", "serve", str(folder / "tiny")]
    with log.open("wb") as out:
        process = subprocess.Popen([*command, f"--port={port}", *FLAGS], stdout=out, stderr=out)
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, log.read_text()[-3000:]


async def until_ready(http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(READY_WITHIN_S):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get("/ready") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.2)


async def ask(http: aiohttp.ClientSession, num_tokens: int) -> tuple[int, dict[str, Any]]:
    body = {"model": "tiny", "prompt": [7] * num_tokens, "max_tokens": 8, "ignore_eos": True}
    async with http.post("/v1/completions", json=body) as response:
        return response.status, await response.json()


async def timelines(worker: RoutedWorker, http: aiohttp.ClientSession) -> list[TimelineEvent]:
    """Return the timeline of two requests, from the worker's own events."""
    parser, found = EventParser(), []
    async with aiohttp.ClientSession() as own, own.get(f"{worker.url}/seesaw/events") as response:
        asking = asyncio.gather(ask(http, 900), ask(http, 20))
        async for chunk in response.content.iter_any():
            for kind, data in parser.feed(chunk, time.monotonic()):
                event = read_event(kind, data)
                if isinstance(event, TimelineEvent):
                    found.append(event)
            ended = {s.number for e in found for s in e.requests if s.kind == "decode"}
            if len(ended) == 2:
                break
        assert [status for status, _ in await asking] == [200, 200]
    return found


async def test_the_router_sees_the_pool_and_the_worker_what_its_groups_did(
    url: str,
) -> None:
    async with aiohttp.ClientSession(url) as http:
        await until_ready(http)
        (worker,) = (await router_state_of(http, url)).workers
        assert worker.mode == "elastic"
        assert worker.capacity_tokens
        assert (worker.free_tokens, worker.queued_tokens) == (worker.capacity_tokens, 0)
        async with asyncio.timeout(60):
            found = await timelines(worker, http)
        prefills = [s for event in found for s in event.requests if s.kind == "prefill"]
        assert sorted(span.num_tokens for span in prefills) == [20, 900]
        assert sum(span.num_iterations for e in found for span in e.groups) >= 9
        assert all(span.began_s < span.ended_s for event in found for span in event.groups)
        status, refusal = await ask(http, 5000)
        assert status == 400
        assert "1024" in refusal["error"]["message"]
        assert "5000" in refusal["error"]["message"]
