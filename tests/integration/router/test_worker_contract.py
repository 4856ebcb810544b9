"""What the router relies on in a worker: the stand-in and a real worker pass the same tests.

The real one runs behind ``seesaw serve``, so that this is also the test of router and real vLLM
together.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from seesaw_cli.serve.local import free_port
from seesaw_core.messages import VERSION, Stage, WorkerState
from seesaw_core.reading import read_event
from seesaw_worker.synthetic import TINY, write_checkpoint
from support.fake_worker.router import router_state_of
from support.worker_states import num_inside, state_of

STAND_IN = Path(__file__).parents[2] / "support" / "fake_worker" / "engine.py"
READY_WITHIN_S = 240.0
MODEL = "the-model"


@dataclass(frozen=True, kw_only=True)
class Served:
    """A worker, and a router before it."""

    router: str
    worker: str
    processes: list["subprocess.Popen[bytes]"]


@pytest.fixture(
    scope="module",
    params=["stand-in", pytest.param("real", marks=pytest.mark.engine)],
)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    port, name = free_port(), f"--served-model-name={MODEL}"
    seesaw = [sys.executable, "-m", "seesaw_cli.main"]
    if request.param == "stand-in":
        behind = free_port()
        commands = [
            [sys.executable, str(STAND_IN), MODEL, f"--port={behind}"],
            [*seesaw, "router", f"--port={port}", f"--worker=http://127.0.0.1:{behind}"],
        ]
    else:
        model = tmp_path_factory.mktemp("models") / "tiny"
        write_checkpoint(model, TINY)
        flags = ("--dtype=float32", "--enforce-eager", "--max-model-len=2048", "-tp=2")
        pool = "--kv-cache-memory-bytes=134217728"
        buffer = ("--kv-buffer-gib=0.05", "--reshard=always")
        commands = [[*seesaw, "serve", str(model), f"--port={port}", name, *flags, pool, *buffer]]
    log = tmp_path_factory.mktemp("logs") / "stderr"
    with log.open("wb") as stderr:
        processes = [subprocess.Popen(command, stderr=stderr) for command in commands]
    router = f"http://127.0.0.1:{port}"
    try:
        asyncio.run(until_ready(router, processes))
        worker = asyncio.run(worker_of(router))
        yield Served(router=router, worker=worker, processes=processes)
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(60) for process in processes]
    assert codes[-1] == 0
    assert "Traceback" not in log.read_text()


async def until_ready(url: str, processes: list["subprocess.Popen[bytes]"]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    async with aiohttp.ClientSession() as http:
        while time.monotonic() < deadline:
            assert [p.poll() for p in processes] == [None] * len(processes)
            try:
                async with http.get(f"{url}/ready") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)
    raise TimeoutError(url)


async def worker_of(router: str) -> str:
    async with aiohttp.ClientSession() as http:
        return (await router_state_of(http, router)).workers[0].url


@asynccontextmanager
async def asked(url: str, **body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    whole = {"model": MODEL, "prompt": "a b c d e f", "temperature": 0, "ignore_eos": True} | body
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}/v1/completions", json=whole) as response,
    ):
        yield response


async def test_it_tells_its_state_at_once_and_in_its_events(served: Served) -> None:
    async with aiohttp.ClientSession() as http:
        state = await state_of(http, served.worker)
    assert (state.version, state.mode, state.stage) == (VERSION, "resharding", Stage.SERVING)
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{served.worker}/seesaw/events") as response:
            kind, data = [await response.content.readline() for _ in range(2)]
        async with http.get(f"{served.worker}/health") as response:
            assert response.status == 200
    assert kind == b"event: state\n"
    assert isinstance(read_event("state", data.removeprefix(b"data: ")), WorkerState)


@pytest.mark.parametrize("by", ["worker", "router"])
async def test_a_stream_says_what_the_whole_answer_says(served: Served, by: str) -> None:
    url = getattr(served, by)
    async with asked(url, max_tokens=12) as response:
        assert response.status == 200
        whole = await response.json()
    assert whole["usage"]["completion_tokens"] == 12
    assert whole["choices"][0]["finish_reason"] == "length"
    async with asked(url, max_tokens=12, stream=True) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line async for line in response.content if line.strip()]
    assert lines[-1].strip() == b"data: [DONE]"
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines[:-1]]
    text = "".join(c["choices"][0]["text"] for c in chunks if c["choices"])
    assert text == whole["choices"][0]["text"]


@pytest.mark.parametrize("by", ["worker", "router"])
async def test_bad_requests_are_the_clients_fault(served: Served, by: str) -> None:
    url = getattr(served, by)
    async with asked(url, model="unknown") as response:
        assert response.status == 404
        assert "does not exist" in (await response.json())["error"]["message"]
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{url}/v1/completions", data=b"{", headers={"content-type": "application/json"}
        ) as response,
    ):
        assert 400 <= response.status < 500


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_goes_away_leaves_nothing_running(served: Served, stream: bool) -> None:
    async def running() -> int:
        async with aiohttp.ClientSession() as http:
            return num_inside(await state_of(http, served.worker))

    async def ask() -> None:
        async with asked(served.router, max_tokens=1900, stream=stream) as response:
            assert response.status == 200, await response.text()
            await response.read()

    task = asyncio.create_task(ask())
    async with asyncio.timeout(30):
        while await running() == 0:
            if task.done():
                await task
                task = asyncio.create_task(ask())  # it ended before anybody saw it
            await asyncio.sleep(0.01)
        task.cancel()
        while await running() != 0:
            await asyncio.sleep(0.02)
