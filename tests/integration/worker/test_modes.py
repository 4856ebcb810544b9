"""A mode is all that is needed for another way of serving: server and router know none by name."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from seesaw_cli.serve.local import free_port
from seesaw_core.messages import Stage
from support.fake_worker.router import router_before
from support.worker_states import state_of

ECHO = Path(__file__).parents[2] / "support" / "echo_mode.py"
STARTS_WITHIN_S = 240.0

pytestmark = pytest.mark.engine


@pytest.fixture
def echo(tiny_model: Path, tmp_path: Path) -> Iterator[str]:
    """A worker whose mode answers with the prompt: its URL."""
    port = free_port()
    command = [sys.executable, str(ECHO), str(tiny_model), f"--port={port}", "--host=127.0.0.1"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--served-model-name=echo"],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(timeout=60) == 0, (tmp_path / "log").read_text()[-3000:]


async def test_an_echo_engine_serves_over_the_openai_api_and_behind_a_router(echo: str) -> None:
    body = {"model": "echo", "prompt": [5, 6, 7, 8, 9], "max_tokens": 4, "return_token_ids": True}
    async with aiohttp.ClientSession() as http:
        await until_healthy(http, echo)
        async with http.post(f"{echo}/v1/completions", json=body) as response:
            choice = (await response.json())["choices"][0]
        assert choice["token_ids"] == [5, 6, 7, 8]
        state = await state_of(http, echo)
        assert (state.mode, state.stage, state.resharding) == ("echo", Stage.SERVING, None)
        async with router_before(echo) as router:
            await router.until_serving(echo)
            async with http.post(f"{router.url}/v1/completions", json=body) as response:
                routed = (await response.json())["choices"][0]
            assert routed == choice
            assert (await router.workers())[echo].mode == "echo"


async def until_healthy(http: aiohttp.ClientSession, url: str) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            async with http.get(f"{url}/health") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.2)
    raise TimeoutError(url)
