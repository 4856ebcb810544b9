"""The router before two stand-in workers: real processes, real sockets."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from seesaw_cli.serve.local import free_port
from support.worker_states import num_inside, state_of

STAND_IN = Path(__file__).parents[2] / "support" / "fake_worker" / "engine.py"

Start = Callable[..., "Running"]


class Running:
    """A process that serves HTTP."""

    def __init__(self, command: list[str], port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(command)

    async def until(self, http: aiohttp.ClientSession, path: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                async with http.get(self.url + path) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{self.url}{path}")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``worker`` or ``router`` with flags; ended after the test."""
    running: list[Running] = []

    def begin(kind: str, *flags: str) -> Running:
        port = free_port()
        command = {
            "worker": [sys.executable, str(STAND_IN)],
            "router": [sys.executable, "-m", "seesaw_cli.main", "router"],
        }[kind]
        running.append(Running([*command, f"--port={port}", *flags], port))
        return running[-1]

    yield begin
    for each in running:
        each.process.kill()
        each.process.wait()


def body_of(number: int, **more: Any) -> dict[str, Any]:
    return {"model": "stand-in", "prompt": f"number {number}", "max_tokens": 8} | more


async def ask(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> tuple[int, bytes]:
    async with http.post(f"{url}/v1/completions", json=body) as response:
        return response.status, await response.read()


async def test_answers_pass_through_unchanged_streamed_or_not(start: Start) -> None:
    worker = start("worker")
    router = start("router", f"--worker={worker.url}")
    async with aiohttp.ClientSession() as http:
        await router.until(http, "/ready")
        for stream in (False, True):
            body = body_of(1, stream=stream)
            assert await ask(http, router.url, body) == await ask(http, worker.url, body)
        bad = await ask(http, router.url, body_of(1) | {"model": "unknown"})
        assert bad == await ask(http, worker.url, body_of(1) | {"model": "unknown"})
        assert bad[0] == 404


async def test_chunks_come_as_they_are_made(start: Start) -> None:
    worker = start("worker", "--token-s=0.1")
    router = start("router", f"--worker={worker.url}")
    async with aiohttp.ClientSession() as http:
        await router.until(http, "/ready")
        began = time.monotonic()
        body = body_of(1, stream=True)
        async with http.post(f"{router.url}/v1/completions", json=body) as response:
            came = [
                time.monotonic() - began
                async for line in response.content
                if line.startswith(b"data: {")
            ]
    assert len(came) == 8
    assert came[0] < 0.4
    assert came[-1] - came[0] > 0.5


async def test_no_request_fails_when_a_worker_is_killed(start: Start) -> None:
    workers = [start("worker") for _ in range(2)]
    router = start("router", *(f"--worker={w.url}" for w in workers))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        for worker in workers:
            await worker.until(http, "/health")
        await router.until(http, "/ready")
        await asyncio.sleep(1.0)  # both are known
        tasks = []
        for number in range(200):
            tasks.append(asyncio.create_task(ask(http, router.url, body_of(number, max_tokens=40))))
            await asyncio.sleep(0.005)
            if number == 100:
                workers[0].process.kill()
        answers = await asyncio.gather(*tasks)
        async with http.get(f"{router.url}/metrics") as response:
            metrics = await response.text()
    assert [status for status, _ in answers if status != 200] == []
    assert all(json.loads(a)["usage"]["completion_tokens"] == 40 for _, a in answers)
    retries = next(x for x in metrics.splitlines() if x.startswith("seesaw_router_retries_total "))
    assert float(retries.split()[1]) > 0, "nothing was running on the worker that was killed"


async def test_a_client_that_goes_away_ends_its_request_at_the_worker(start: Start) -> None:
    worker = start("worker", "--token-s=0.05")
    router = start("router", f"--worker={worker.url}")
    async with aiohttp.ClientSession() as http:
        await router.until(http, "/ready")

        async def running() -> int:
            return num_inside(await state_of(http, worker.url))

        for stream in (True, False):
            body = body_of(1, stream=stream, max_tokens=10_000)
            task = asyncio.create_task(ask(http, router.url, body))
            async with asyncio.timeout(5):
                while await running() == 0:
                    await asyncio.sleep(0.02)
                task.cancel()
                while await running() != 0:
                    await asyncio.sleep(0.02)


async def test_a_full_queue_refuses_with_a_time_to_come_back(start: Start) -> None:
    router = start("router", "--worker=http://127.0.0.1:9", "--max-queued=2")
    async with aiohttp.ClientSession() as http:
        await router.until(http, "/health")
        waiting = [asyncio.create_task(ask(http, router.url, body_of(n))) for n in range(2)]
        await asyncio.sleep(0.3)
        async with http.post(f"{router.url}/v1/completions", json=body_of(3)) as response:
            assert response.status == 429
            assert int(response.headers["retry-after"]) >= 1
            assert (await response.json())["error"]["type"] == "rate_limit_error"
        for task in waiting:
            task.cancel()


async def test_sigterm_lets_running_answers_finish(start: Start) -> None:
    worker = start("worker", "--token-s=0.05")
    router = start("router", f"--worker={worker.url}")
    async with aiohttp.ClientSession() as http:
        await router.until(http, "/ready")
        bodies = [body_of(1, stream=True, max_tokens=40), body_of(2, max_tokens=40)]
        tasks = [asyncio.create_task(ask(http, router.url, b)) for b in bodies]
        await asyncio.sleep(0.5)
        router.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*tasks)
    assert [status for status, _ in answers] == [200, 200]
    assert answers[0][1].endswith(b"data: [DONE]\n\n")
    assert await asyncio.to_thread(router.process.wait, 10) == 0


def test_a_router_without_workers_says_what_to_give() -> None:
    command = [sys.executable, "-m", "seesaw_cli.main", "router"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--worker URL" in ended.stderr


def test_the_worker_of_seesaw_serve_ends_with_it_even_by_kill_9() -> None:
    command = [sys.executable, "-m", "seesaw_cli.main", "serve", "no/model"]
    serve = subprocess.Popen([*command, f"--port={free_port()}"])
    workers: list[psutil.Process] = []
    deadline = time.monotonic() + 30
    while not workers and time.monotonic() < deadline:
        below = psutil.Process(serve.pid).children()
        workers = [p for p in below if "worker" in p.cmdline()]
        time.sleep(0.02)
    (worker,) = workers
    serve.kill()
    serve.wait()
    _, alive = psutil.wait_procs([worker], timeout=30)
    assert alive == []
