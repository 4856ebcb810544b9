"""A router before plain vLLM and a stand-in of ours: people migrate a worker at a time."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import aiohttp
import pytest

from seesaw_cli.serve.local import free_port
from seesaw_core.layouts import Layout
from seesaw_worker.modes.static.reference import plain_environment
from seesaw_worker.synthetic import TINY, write_checkpoint
from support.fake_worker.odd import OddWorker
from support.fake_worker.router import Router, router_before

pytestmark = pytest.mark.engine
READY_WITHIN_S = 200.0
FLAGS = ("--dtype=float32", "--enforce-eager", "--max-model-len=512", "--max-num-seqs=8")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of plain vLLM, which may not have loaded yet."""
    folder = tmp_path_factory.mktemp("plain")
    write_checkpoint(folder / "tiny", TINY)
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    flags = [f"--model={folder / 'tiny'}", "--served-model-name=stand-in", f"--port={port}"]
    environment = os.environ | plain_environment(Layout(tensor=1, pipeline=1))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *flags, *FLAGS, "--host=127.0.0.1", "--kv-cache-memory-bytes=67108864"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(60)


async def until_static(router: Router, url: str) -> None:
    async with asyncio.timeout(READY_WITHIN_S):
        while not (await router.workers())[url].serving:
            await asyncio.sleep(0.5)


async def test_plain_vllm_serves_behind_a_router_alone_and_beside_ours(plain: str) -> None:
    async with OddWorker().running() as ours, router_before(plain) as alone:
        await until_static(alone, plain)
        assert (await alone.workers())[plain].kind == "static"
        body = {"model": "stand-in", "prompt": "a b c", "max_tokens": 4, "temperature": 0}
        async with aiohttp.ClientSession() as http:
            async with http.post(f"{plain}/v1/completions", json=body) as response:
                direct = await response.json()
            async with http.post(f"{alone.url}/v1/completions", json=body) as response:
                routed = await response.json()
        assert routed["choices"] == direct["choices"]
        assert routed["usage"]["completion_tokens"] == 4
        async with router_before(plain, ours.url) as mixed:
            await mixed.until_serving(plain, ours.url)
            answers = await asyncio.gather(*(mixed.ask(ignore_eos=True) for _ in range(24)))
        assert {status for status, _ in answers} == {200}
        assert 0 < ours.asked < 24
