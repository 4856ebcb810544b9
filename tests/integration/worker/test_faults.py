"""``kill -9`` of any process of a serving worker: clients hear of it, and nothing of it is left."""

import asyncio
import json
import random
import signal
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import psutil
import pytest

from seesaw_cli.serve.local import LocalWorker
from support.process_watch.machine import (
    GONE_WITHIN_S,
    Machine,
    StartWorker,
    find,
    living,
    role_of,
    wait_for,
)

pytestmark = [pytest.mark.engine, pytest.mark.slow]

CLIENTS_HEAR_WITHIN_S = 5.0
MAX_TOKENS = 400


@dataclass
class Client:
    """Asks again and again until something goes wrong, and how that showed."""

    is_stream: bool
    num_tokens: int = 0
    outcome: str = "running"
    ended_s: float = 0.0


async def ask(http: aiohttp.ClientSession, worker: LocalWorker, client: Client, seed: int) -> None:
    rng = random.Random(seed)
    body = {
        "model": worker.model,
        "prompt": [rng.randrange(10, 900) for _ in range(rng.choice((3, 40, 150)))],
        "max_tokens": MAX_TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        "stream": client.is_stream,
    }
    try:
        while client.outcome == "running":
            async with http.post(f"{worker.url}/v1/completions", json=body) as response:
                if response.status != 200:
                    client.outcome = f"status {response.status}"
                elif client.is_stream:
                    await read_stream(response, client)
                else:
                    await response.read()
    except (aiohttp.ClientError, ConnectionError) as error:
        client.outcome = type(error).__name__
    finally:
        client.ended_s = time.monotonic()


async def read_stream(response: aiohttp.ClientResponse, client: Client) -> None:
    is_whole = False
    async for line in response.content:
        text = line.decode().removeprefix("data: ").strip()
        if text == "[DONE]":
            is_whole = True
        elif text:
            if "error" in json.loads(text):
                client.outcome = "error"
            client.num_tokens += 1
    if not is_whole and client.outcome == "running":
        client.outcome = "cut off"


async def kill_under_load(
    worker: LocalWorker, victim: psutil.Process, seed: int
) -> tuple[list[Client], float]:
    """Kill a process while streams run and prompts come.

    Returns what clients saw, late ones still ``running``, and the moment of the kill.
    """
    rng = random.Random(seed)
    clients: list[Client] = []
    tasks: list[asyncio.Task[None]] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:

        def begin(is_stream: bool) -> None:
            clients.append(Client(is_stream=is_stream))
            tasks.append(asyncio.create_task(ask(http, worker, clients[-1], seed + len(clients))))

        for _ in range(3):
            begin(True)
        async with asyncio.timeout(30):
            while any(c.num_tokens < 2 for c in clients):
                await asyncio.sleep(0.05)
        for index in range(5):
            begin(bool(index % 2))
            await asyncio.sleep(rng.uniform(0, 0.3))
        victim.kill()
        killed_s = time.monotonic()
        _, late = await asyncio.wait(tasks, timeout=CLIENTS_HEAR_WITHIN_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return clients, killed_s


VICTIMS = [
    ("supervisor", 0),
    ("server", 0),
    ("resource tracker", 0),
    ("fork server", 0),
    ("EngineCore", 0),
    ("EngineCore", 1),
    ("Worker_PP0", 0),
    ("Worker_PP1", 0),
    ("Worker_TP0", 0),
    ("Worker_TP1", 0),
]


@pytest.mark.parametrize(("role", "index"), VICTIMS, ids=[f"{r}-{i}" for r, i in VICTIMS])
def test_a_killed_process_ends_the_worker_and_its_clients_hear_of_it(
    role: str, index: int, start_worker: StartWorker, machine: Machine
) -> None:
    worker = start_worker("--kv-buffer-gib=0.05", "--flush-timeout-s=0.5")
    machine.watch(worker)
    assert len(machine.segments) > 10, "what shall be gone is there now"
    assert len(machine.left()) > 10
    roles = {role_of(p) for p in living(worker)}
    assert roles == {r for r, _ in VICTIMS}, "each process of the worker has its turn here"

    seed = VICTIMS.index((role, index))
    clients, killed_s = asyncio.run(kill_under_load(worker, find(worker, role, index), seed))
    wait_for(lambda: not machine.alive(), killed_s + GONE_WITHIN_S - time.monotonic())
    gone_s = time.monotonic() - killed_s
    outcomes = [c.outcome for c in clients]
    slowest_s = max(c.ended_s for c in clients) - killed_s
    print(f"{role} {index}: clients {outcomes} within {slowest_s:.2f} s, gone {gone_s:.2f} s")
    assert "running" not in outcomes
    machine.assert_nothing_left()
    assert gone_s < GONE_WITHIN_S
    assert worker.process.wait(timeout=1) != 0


def test_a_start_removes_what_a_worker_left_that_was_killed_as_a_whole_and_serves(
    start_worker: StartWorker, machine: Machine
) -> None:
    victim = start_worker("--kv-buffer-gib=0.05")
    machine.watch(victim)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # so that nobody can clean up
        for process in reversed(machine.processes):
            process.send_signal(number)
    victim.process.wait()
    assert wait_for(lambda: not machine.alive(), GONE_WITHIN_S) < GONE_WITHIN_S
    assert len(machine.left()) > 4
    worker = start_worker("--kv-buffer-gib=0.05")
    assert machine.left() == []

    async def complete() -> Any:
        async with aiohttp.ClientSession() as http:
            body = {"model": worker.model, "prompt": [5, 6, 7], "max_tokens": 4, "ignore_eos": True}
            async with http.post(f"{worker.url}/v1/completions", json=body) as response:
                return await response.json()

    assert asyncio.run(complete())["usage"]["completion_tokens"] == 4
    assert worker.stop() == 0
