"""A worker under live traffic: every request ends properly, and nothing is left of any.

Requests of every kind arrive at random while the worker re-shards itself, and some clients go
away at a random moment: while they wait, are prefilled, load or decode.
"""

import asyncio
import json
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from seesaw_cli.serve.local import LocalWorker
from seesaw_core.messages import WorkerState
from seesaw_worker.processes.segments import mapped_segments
from support.process_watch.machine import StartWorker
from support.worker_states import is_idle, num_inside, resharding, state_of

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MIN_TRANSITIONS = 120
MIN_REQUESTS = 240
AT_MOST_S = 420.0
REPEATED = 40
LONG = 900  # output tokens
# What malloc may keep of one large prompt's tensors, once; 500 transitions show no more of it.
RSS_GROWTH_BYTES = 16 << 20
SMALL_BUFFER = ("--kv-buffer-gib=0.004", "--flush-timeout-s=0.5")  # 32 blocks, 1024 tokens
KINDS = {  # and their shares
    "plain": 10,
    "two": 2,
    "seeded": 2,
    "prompt-logprobs": 1,
    "one-token": 1,
    "oversize": 1,
}


@dataclass
class Ask:
    """One request: what it asks, whether its client goes away, and what came back."""

    body: dict[str, Any]
    kind: str
    leaves_after_s: float | None
    tokens: dict[int, list[int]] = field(default_factory=dict)
    finished: dict[int, str] = field(default_factory=dict)
    outcome: str = "never sent"

    @property
    def is_greedy(self) -> bool:
        return bool(self.body["temperature"] == 0)

    def problem(self) -> str | None:
        """What is wrong with how it ended, if anything."""
        if self.outcome == "left" and self.leaves_after_s is not None:
            return None
        wanted = dict.fromkeys(range(self.body.get("n", 1)), self.body["max_tokens"])
        got = {index: len(tokens) for index, tokens in self.tokens.items()}
        if self.outcome != "done" or got != wanted:
            return f"{self.kind}: {self.outcome}, tokens {got} instead of {wanted}"
        if set(self.finished.values()) != {"length"}:
            return f"{self.kind}: finished {self.finished}"
        return None


def draw(rng: random.Random, model: str) -> Ask:
    """A request of some kind; most of them greedy and short."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    length = {"one-token": 1, "oversize": rng.randrange(1100, 1400)}.get(
        kind, rng.choice((2, 20, 32, 33, 64, 65, 200, 500))
    )
    body: dict[str, Any] = {
        "model": model,
        "prompt": [rng.randrange(10, 900) for _ in range(length)],
        "max_tokens": rng.choice((1, 2, 8, 24)),
        "ignore_eos": True,
        "temperature": 0,
        "stream": rng.random() < 0.5,
        "return_token_ids": True,
    }
    if kind == "two":
        body |= {"n": 2, "temperature": 0.8, "seed": rng.randrange(1000)}
    elif kind == "seeded":
        body |= {"temperature": 0.8, "seed": rng.randrange(1000)}
    elif kind == "prompt-logprobs":
        body |= {"prompt_logprobs": 1, "stream": False}
    leaves = rng.random() < 0.3
    if leaves:
        body["max_tokens"] = 200
    return Ask(body=body, kind=kind, leaves_after_s=rng.uniform(0.0, 1.5) if leaves else None)


async def carry_out(http: aiohttp.ClientSession, url: str, ask: Ask) -> None:
    try:
        async with asyncio.timeout(ask.leaves_after_s):
            await read_answer(http, url, ask)
    except TimeoutError:
        ask.outcome = "left"
    except aiohttp.ClientError as error:
        ask.outcome = repr(error)


async def read_answer(http: aiohttp.ClientSession, url: str, ask: Ask) -> None:
    async with http.post(f"{url}/v1/completions", json=ask.body) as response:
        if response.status != 200:
            ask.outcome = f"status {response.status}: {await response.text()}"
        elif not ask.body["stream"]:
            take(ask, await response.json())
            ask.outcome = "done"
        else:
            async for line in response.content:
                text = line.decode().removeprefix("data: ").strip()
                if text == "[DONE]":
                    ask.outcome = "done"
                elif text:
                    take(ask, json.loads(text))


def take(ask: Ask, answer: dict[str, Any]) -> None:
    if "error" in answer:
        raise aiohttp.ClientError(str(answer["error"]))
    for choice in answer["choices"]:
        ask.tokens.setdefault(choice["index"], []).extend(choice["token_ids"] or ())
        if choice["finish_reason"]:
            ask.finished[choice["index"]] = choice["finish_reason"]


async def idle_state(http: aiohttp.ClientSession, url: str) -> WorkerState:
    """Wait, but not long, until nothing is left of any request."""
    deadline = time.monotonic() + 15
    while not is_idle(state := await state_of(http, url)) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return state


async def traffic(
    http: aiohttp.ClientSession, worker: LocalWorker, rng: random.Random, until: int
) -> list[Ask]:
    """Send requests at random moments until ``until`` transitions have been made."""
    asks: list[Ask] = []
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        while time.monotonic() - began < AT_MOST_S / 2:
            state = await state_of(http, worker.url)
            if resharding(state).transitions >= until and len(asks) >= MIN_REQUESTS // 2:
                break
            for _ in range(rng.choice((1, 1, 1, 4))):
                asks.append(draw(rng, worker.model))
                tasks.create_task(carry_out(http, worker.url, asks[-1]))
            await asyncio.sleep(rng.expovariate(1 / 0.25))
    return asks


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a worker takes: resident bytes by process, bytes by file of its run folder."""

    rss: dict[str, int]
    files: dict[Path, int]


def footprint(worker: LocalWorker) -> Footprint:
    supervisor = psutil.Process(worker.process.pid)
    below = supervisor.children(recursive=True)
    folders = {s.parent for s in mapped_segments(below) if s.parent.name.startswith("seesaw-")}
    return Footprint(
        rss={f"{p.name()} {p.pid}": p.memory_info().rss for p in [supervisor, *below]},
        files={f: f.stat().st_size for folder in folders for f in folder.iterdir()},
    )


async def live(worker: LocalWorker) -> tuple[list[Ask], list[Footprint], list[WorkerState]]:
    """Two halves of traffic. Returns all requests, and how things stood after each half."""
    rng = random.Random(11)
    timeout = aiohttp.ClientTimeout(total=120)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)  # or an idle one may just close
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        asks: list[Ask] = []
        prints, states = [footprint(worker)], [await idle_state(http, worker.url)]
        for half in (1, 2):
            asks += await traffic(http, worker, rng, MIN_TRANSITIONS * half // 2)
            states.append(await idle_state(http, worker.url))
            prints.append(footprint(worker))
    return asks, prints, states


async def ask_again(worker: LocalWorker, asks: list[Ask]) -> list[Ask]:
    """The same requests, each alone."""
    repeats = [Ask(body=a.body | {"stream": False}, kind=a.kind, leaves_after_s=None) for a in asks]
    async with aiohttp.ClientSession() as http:
        for repeat in repeats:
            await carry_out(http, worker.url, repeat)
    return repeats


def test_every_request_ends_properly_through_a_hundred_transitions(
    start_worker: StartWorker,
) -> None:
    worker = start_worker(*SMALL_BUFFER)
    began = time.monotonic()
    asks, prints, states = asyncio.run(live(worker))
    seconds = time.monotonic() - began
    start, middle, end = prints
    growth = {name: end.rss[name] - rss for name, rss in middle.rss.items()}
    transitions = resharding(states[-1]).transitions
    print(
        f"\n{len(asks)} requests in {seconds:.0f} s, {transitions} transitions;",
        dict(Counter(f"{a.kind} {a.outcome[:20]}" for a in asks)),
        f"\npaths {resharding(states[-1]).paths}\nRSS in MiB, start -> middle -> end:",
        *(
            f"\n  {name}: {start.rss[name] / 2**20:.1f} -> {rss / 2**20:.1f} -> "
            f"{end.rss[name] / 2**20:.1f}"
            for name, rss in middle.rss.items()
        ),
    )
    assert [p for a in asks if (p := a.problem())] == []
    assert transitions >= MIN_TRANSITIONS
    assert len(asks) >= MIN_REQUESTS
    outcomes = Counter((a.kind, a.outcome) for a in asks)
    kinds = {a.kind for a in asks}
    assert all(outcomes[kind, "done"] and outcomes[kind, "left"] for kind in kinds), outcomes
    assert [s for s in states if not is_idle(s)] == []
    assert middle.files == start.files
    assert end.files == start.files
    assert {n: g for n, g in growth.items() if g > RSS_GROWTH_BYTES} == {}

    greedy = [a for a in asks if a.is_greedy and a.outcome == "done"]
    chosen = random.Random(3).sample(greedy, min(REPEATED, len(greedy)))
    again = asyncio.run(ask_again(worker, chosen))
    assert [b.tokens for b in again] == [a.tokens for a in chosen]
    assert worker.stop() == 0


def test_sigterm_lets_running_streams_finish(start_worker: StartWorker) -> None:
    worker = start_worker(*SMALL_BUFFER)
    processes = psutil.Process(worker.process.pid).children(recursive=True)
    segments = mapped_segments(processes)
    asks = asyncio.run(stop_while_streaming(worker))
    assert [p for a in asks if (p := a.problem())] == []
    assert worker.process.wait(timeout=60) == 0
    assert [p for p in processes if p.is_running()] == []
    assert len(segments) >= 4
    folders = {s.parent for s in segments if s.parent != Path("/dev/shm")}
    assert len(folders) == 1
    assert [p for p in segments | folders if p.exists()] == []


async def stop_while_streaming(worker: LocalWorker) -> list[Ask]:
    rng = random.Random(5)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as http:
        asks: list[Ask] = []
        async with asyncio.TaskGroup() as tasks:

            def send(stream: bool, num_tokens: int, max_tokens: int) -> None:
                body = {
                    "model": worker.model,
                    "prompt": [rng.randrange(10, 900) for _ in range(num_tokens)],
                    "max_tokens": max_tokens,
                    "ignore_eos": True,
                    "temperature": 0,
                    "stream": stream,
                    "return_token_ids": True,
                }
                asks.append(Ask(body=body, kind=f"{num_tokens}", leaves_after_s=None))
                tasks.create_task(carry_out(http, worker.url, asks[-1]))

            for num_tokens in (1, 30, 300):
                send(True, num_tokens, LONG)  # so that all run still when the last has come
            async with asyncio.timeout(60):
                while any(not a.tokens for a in asks):
                    await asyncio.sleep(0.05)
            for num_tokens in (40, 400, 500, 600):  # more than the buffer holds: some still wait
                send(stream=num_tokens > 450, num_tokens=num_tokens, max_tokens=20)
            async with asyncio.timeout(60):
                while (running := await known_requests(http, worker.url, asks)) is None:
                    await asyncio.sleep(0.01)
            assert running > 0
            worker.process.send_signal(signal.SIGTERM)
        assert any(len(a.tokens[0]) == LONG for a in asks)
    return asks


async def known_requests(http: aiohttp.ClientSession, url: str, asks: list[Ask]) -> int | None:
    """How many requests the worker is busy with; None while some have not reached it."""
    ended = sum(a.outcome != "never sent" for a in asks)  # first, so that none counts twice
    state = await state_of(http, url)
    running = num_inside(state)
    return running if running + ended >= len(asks) else None
