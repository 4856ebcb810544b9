"""A worker of elastic instances serves the OpenAI API with plain vLLM's tokens, and outlives ranks.

The scripted plans and the matrix of exactness are in ``test_elastic_exactness.py``.
"""

import asyncio
import contextlib
import json
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from seesaw_cli.serve.local import LocalWorker
from seesaw_core.layouts import Layout
from seesaw_core.messages import ElasticState, Stage, WorkerState
from seesaw_worker.modes.static.reference import Sample, plain_tokens
from support.elastic.asking import tokens_of
from support.process_watch.machine import Machine, find, tree

pytestmark = pytest.mark.engine

ENGINE = {
    "dtype": "float32",
    "max_model_len": 1024,
    "block_size": 32,
    "generation_config": "vllm",
    "kv_cache_memory_bytes": 8 << 20,
    "max_num_seqs": 16,
}
FLAGS = (
    "--enforce-eager",
    "--elastic-timeout-s=20",
    *(f"--{name.replace('_', '-')}={value}" for name, value in ENGINE.items()),
)
LENGTHS = (1, 2, 31, 32, 33, 64, 65, 700)
KINDS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.9, "top_p": 0.95},
    {"temperature": 0.0, "repetition_penalty": 1.8, "frequency_penalty": 1.5},
    {"temperature": 1.2, "top_k": 5, "min_p": 0.01, "presence_penalty": 1.0},
    {"temperature": 0.0, "min_tokens": 4, "stop_token_ids": [20, 30, 40]},
    {"temperature": 0.7, "allowed_token_ids": [20, 30, 40, 50, 60]},
)


def samples() -> list[Sample]:
    rng = random.Random(5)
    made = []
    for index, length in enumerate(LENGTHS):
        params = KINDS[index % len(KINDS)] | {"seed": index, "max_tokens": 12, "ignore_eos": True}
        made.append(Sample(prompt=[rng.randrange(10, 900) for _ in range(length)], params=params))
    return made


def part_of(state: WorkerState) -> ElasticState:
    assert state.elastic is not None
    return state.elastic


@pytest.fixture(scope="module")
def worker(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalWorker]:
    """A worker of two instances of one rank each."""
    log = tmp_path_factory.mktemp("elastic") / "worker.log"
    with LocalWorker(tiny_model, ["--elastic-instances=2", *FLAGS], log=log) as started:
        yield started


async def until_empty(worker: LocalWorker) -> None:
    deadline = time.monotonic() + 60
    while True:
        state = worker.state()
        part = part_of(state)
        is_empty = part.free_tokens == part.capacity_tokens
        if is_empty and (part.num_running, part.groups, state.num_waiting) == (0, (), 0):
            return
        assert time.monotonic() < deadline, part
        await asyncio.sleep(0.2)


async def post(worker: LocalWorker, **body: Any) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{worker.url}/v1/completions", json={"model": worker.model} | body) as response,
    ):
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


def test_tokens_are_plain_vllms(worker: LocalWorker, tmp_path: Path) -> None:
    expected = plain_tokens(Path(worker.model), Layout(), samples(), ENGINE, tmp_path)
    assert asyncio.run(tokens_of(worker, samples())) == expected


async def test_sampling_is_vllms_own(worker: LocalWorker) -> None:
    prompt, limit = [5, 6, 7, 8, 9], {"max_tokens": 6, "ignore_eos": True}
    several = await post(worker, prompt=prompt, n=3, temperature=1.0, seed=4, **limit)
    assert len({choice["text"] for choice in several["choices"]}) == 3
    scored = await post(worker, prompt=prompt, temperature=0, logprobs=2, echo=True, **limit)
    logprobs = scored["choices"][0]["logprobs"]
    assert logprobs["token_logprobs"][0] is None
    assert len(logprobs["token_logprobs"]) == len(prompt) + 6
    assert scored["usage"]["prompt_tokens"] == len(prompt)
    stopped = await post(worker, prompt=prompt, temperature=0, max_tokens=6, min_tokens=3)
    assert stopped["usage"]["completion_tokens"] <= 6
    chosen = await post(
        worker,
        prompt=prompt,
        temperature=0,
        max_tokens=8,
        structured_outputs={"choice": ["yes", "no"]},
    )
    assert chosen["choices"][0]["text"] in ("yes", "no")


async def test_aborted_requests_leave_nothing_behind(worker: LocalWorker) -> None:
    for _ in range(3):
        body = {"model": worker.model, "prompt": [7] * 300, "max_tokens": 600, "ignore_eos": True}
        with pytest.raises(TimeoutError):
            async with (
                asyncio.timeout(1.0),
                aiohttp.ClientSession() as http,
                http.post(f"{worker.url}/v1/completions", json=body) as response,
            ):
                await response.read()
    await until_empty(worker)


async def test_random_arrivals_and_aborts_leave_nothing_and_no_memory_grows(
    worker: LocalWorker,
) -> None:
    rng = random.Random(7)
    sizes = []

    async def ask(body: dict[str, Any], patience_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await post(worker, **body)
                return True
        return False

    for _ in range(6):
        asked = []
        for _ in range(40):
            prompt = [rng.randrange(10, 900) for _ in range(rng.choice((1, 7, 33, 200, 600)))]
            body = {"prompt": prompt, "max_tokens": rng.randint(1, 60), "ignore_eos": True}
            patience_s = rng.choice((rng.random(), 120.0))
            asked.append(asyncio.create_task(ask(body, patience_s)))
            await asyncio.sleep(rng.random() / 20)
        answered = await asyncio.gather(*asked)
        assert 0 < sum(answered) < len(answered), "some are answered and some are aborted"
        await until_empty(worker)
        sizes.append(sum(process.memory_full_info().uss for process in tree(worker)))
    # The first rounds fill the cache, which touches the pages of the pool one after the other.
    assert sizes[-1] < sizes[2] + (16 << 20), sizes


def test_a_lost_instance_takes_only_its_own_requests(
    tiny_model: Path, tmp_path: Path, machine: Machine
) -> None:
    log = tmp_path / "worker.log"
    long = [
        Sample(prompt=[11 + i] * 40, params={"temperature": 0.0, "max_tokens": 200})
        for i in range(4)
    ]
    for sample in long:
        sample.params["ignore_eos"] = True
    with LocalWorker(tiny_model, ["--elastic-instances=2", *FLAGS], log=log) as started:
        expected = asyncio.run(tokens_of(started, long))

        machine.watch(started)

        async def kill_while_they_run() -> list[list[int]]:
            asking = asyncio.create_task(tokens_of(started, long))
            while part_of(started.state()).num_running < len(long):
                await asyncio.sleep(0.05)
            find(started, "Worker", 1).send_signal(signal.SIGKILL)
            return await asking

        assert asyncio.run(kill_while_they_run()) == expected
        part = part_of(started.state())
        assert len(part.lost_instances) == 1
        assert part.restarts >= 1
        assert asyncio.run(tokens_of(started, long[:1])) == expected[:1]
        assert started.is_healthy()
        assert started.state().stage is Stage.SERVING, "or no router sends it anything"
        assert re.search(r" s\] instance \d is lost", log.read_text())
    machine.assert_nothing_left()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--kv-cache-dtype=fp8"], "--kv-cache-dtype"),
        (["--kv-cache-memory-bytes=2097152"], "--max-model-len=1024 is beyond the pool"),
        (["--kv-cache-memory-bytes=1099511627776"], "GiB are available; give fewer instances"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_cannot_work_is_refused_before_loading(
    tiny_model: Path, tmp_path: Path, flags: list[str], words: str
) -> None:
    log = tmp_path / "worker.log"
    worker = LocalWorker(tiny_model, ["--elastic-instances=2", *FLAGS, *flags], log=log)
    worker.launch()
    assert worker.process.wait(timeout=240) == 2
    assert words in log.read_text().splitlines()[-1], json.dumps(log.read_text()[-500:])
