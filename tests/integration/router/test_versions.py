"""Parts of two versions serve together, as they do during every rollout: real older processes."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from seesaw_cli.serve.local import free_port
from seesaw_core.resharding.policy import Phase
from seesaw_core.router_messages import RoutedWorker, WorkerKind
from support.fake_worker.router import router_state_of
from support.older import VERSION_0, environment_of, tree_of

STAND_IN = Path(__file__).parents[2] / "support" / "fake_worker" / "engine.py"
STARTS_WITHIN_S = 60.0

Start = Callable[..., str]


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree_of(VERSION_0, tmp_path_factory.mktemp("older"))


@pytest.fixture
def start(older: Path) -> Iterator[Start]:
    """Start a worker or a router, of today or older; ended after the test."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(kind: str, *flags: str, is_older: bool) -> str:
        port = free_port()
        script = older / "tests/stand_in/engine.py" if is_older else STAND_IN
        command = {"worker": [str(script)], "router": ["-m", "seesaw_cli.main", "router"]}[kind]
        running.append(
            subprocess.Popen(
                [sys.executable, *command, f"--port={port}", *flags],
                env=environment_of(older) if is_older else None,
            )
        )
        return f"http://127.0.0.1:{port}"

    yield begin
    for process in running:
        process.kill()
        process.wait()


@pytest.mark.parametrize("is_older", ["worker", "router"])
async def test_an_older_peer_serves_with_todays(start: Start, is_older: str) -> None:
    worker = start("worker", is_older=is_older == "worker")
    router = start("router", f"--worker={worker}", is_older=is_older == "router")
    body = {"model": "stand-in", "prompt": "a b c", "max_tokens": 8}
    async with aiohttp.ClientSession() as http:
        known = await until_serving(http, router)
        assert (known.kind, known.phase) == (WorkerKind.SEESAW, Phase.DECODE)
        answers = []
        for url in (worker, router):
            async with http.post(f"{url}/v1/completions", json=body) as response:
                assert response.status == 200
                answers.append((await response.json())["choices"])
    assert answers[0] == answers[1]


async def until_serving(http: aiohttp.ClientSession, router: str) -> RoutedWorker:
    """Wait until the router's one worker serves; returns what is known of it."""
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            worker = (await router_state_of(http, router)).workers[0]
            if worker.serving:
                return worker
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    raise TimeoutError(router)
