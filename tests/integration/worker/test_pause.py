"""vLLM's pause and resume reach every request, be it waiting, half prefilled or decoding."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field

import aiohttp
import pytest

from seesaw_cli.serve.local import LocalWorker
from seesaw_core.messages import WorkerState
from support.process_watch.machine import StartWorker
from support.worker_states import is_idle, num_inside, resharding, state_of

pytestmark = [pytest.mark.engine]

LONG, SHORT = 700, 40  # output tokens
ABORTED_WITHIN_S = 10.0


@dataclass
class Stream:
    """One streamed completion as it goes."""

    prompt: list[int]
    max_tokens: int
    tokens: list[int] = field(default_factory=list)
    finish: str | None = None
    ended: bool = False


class Client:
    """Talks to one worker."""

    def __init__(self, worker: LocalWorker, http: aiohttp.ClientSession) -> None:
        self._worker, self._http = worker, http

    async def follow(self, stream: Stream) -> None:
        body = {
            "model": self._worker.model,
            "prompt": stream.prompt,
            "max_tokens": stream.max_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "return_token_ids": True,
        }
        async with self._http.post(f"{self._worker.url}/v1/completions", json=body) as response:
            assert response.status == 200, await response.text()
            async for line in response.content:
                text = line.decode().removeprefix("data: ").strip()
                stream.ended = stream.ended or text == "[DONE]"
                if not text or stream.ended:
                    continue
                choice = json.loads(text)["choices"][0]
                stream.tokens += choice["token_ids"] or ()
                stream.finish = choice["finish_reason"] or stream.finish

    async def post(self, path: str) -> None:
        async with self._http.post(f"{self._worker.url}{path}") as response:
            assert response.status == 200, await response.text()

    async def state(self) -> WorkerState:
        return await state_of(self._http, self._worker.url)


def some_streams(seed: int) -> list[Stream]:
    """Three that will run, and more than the buffer takes beside them."""
    rng = random.Random(seed)
    kinds = [(30, LONG), (60, LONG), (90, LONG), *[(500, SHORT)] * 6]
    return [
        Stream(prompt=[rng.randrange(10, 900) for _ in range(length)], max_tokens=max_tokens)
        for length, max_tokens in kinds
    ]


async def under_way(client: Client, seed: int, tasks: asyncio.TaskGroup) -> list[Stream]:
    """Streams of which some run and some wait. Where the moment is missed, others follow."""
    deadline = time.monotonic() + 120
    while True:
        streams = some_streams(seed)
        running = [tasks.create_task(client.follow(s)) for s in streams[:3]]
        while not all(s.tokens for s in streams[:3]):
            assert time.monotonic() < deadline, await client.state()
            await asyncio.sleep(0.02)
        running += [tasks.create_task(client.follow(s)) for s in streams[3:]]
        while not all(s.tokens for s in streams[3:]):
            state = await client.state()
            if are_spread(state, len(streams)):
                return streams
            assert time.monotonic() < deadline, state
            await asyncio.sleep(0.002)
        await asyncio.gather(*running)


def whole(streams: list[Stream]) -> list[tuple[str, int]]:
    """How streams end that nobody cut short."""
    return [("length", s.max_tokens) for s in streams]


def are_spread(state: WorkerState, count: int) -> bool:
    """Whether all of ``count`` requests are there, waiting as well as decoding."""
    is_spread = state.num_waiting and resharding(state).num_decoding
    return bool(is_spread) and num_inside(state) >= count


async def keep(client: Client) -> None:
    """Nothing moves until the resume, and no token is changed by it."""
    async with asyncio.TaskGroup() as tasks:
        streams = await under_way(client, 1, tasks)
        await client.post("/pause?mode=keep")
        await asyncio.sleep(0.3)  # what was on its way to the client arrives
        then = ([len(s.tokens) for s in streams], resharding(await client.state()).transitions)
        await asyncio.sleep(1.0)  # longer than the flush timeout
        now = ([len(s.tokens) for s in streams], resharding(await client.state()).transitions)
        assert now == then
        assert not all(s.ended for s in streams), "all ended before the pause"
        await client.post("/resume")
    assert [(s.finish, len(s.tokens)) for s in streams] == whole(streams)
    alone = [Stream(prompt=s.prompt, max_tokens=s.max_tokens) for s in streams]
    for stream in alone:
        await client.follow(stream)
    assert [s.tokens for s in alone] == [s.tokens for s in streams]


async def change(client: Client) -> None:
    """A pause may follow another, or come twice at once; one resume ends them all."""
    async with asyncio.TaskGroup() as tasks:
        streams = await under_way(client, 4, tasks)
        await asyncio.gather(client.post("/pause?mode=keep"), client.post("/pause?mode=keep"))
        await client.post("/pause?mode=wait")
        await client.post("/resume")
    assert [(s.finish, len(s.tokens)) for s in streams] == whole(streams)


async def abort(client: Client) -> None:
    """Every request ends at once; a new one waits for the resume."""
    for seed in range(20, 26):  # the pause may come when those that waited have begun
        if await num_aborted_before_a_token(client, seed) >= 3:
            return
    raise AssertionError("those that waited were not aborted")


async def num_aborted_before_a_token(client: Client, seed: int) -> int:
    async with asyncio.TaskGroup() as tasks:
        streams = await under_way(client, seed, tasks)
        began_s = time.monotonic()
        await client.post("/pause?mode=abort")
        late = Stream(prompt=[5] * 40, max_tokens=SHORT)
        following = tasks.create_task(client.follow(late))
        while not all(s.ended for s in streams):
            assert time.monotonic() - began_s < ABORTED_WITHIN_S, streams
            await asyncio.sleep(0.02)
        assert not following.done()
        assert not late.tokens
        await client.post("/resume")
    assert {s.finish for s in streams[:3]} <= {"abort", "length"}
    assert len(late.tokens) == SHORT
    # vLLM streams no chunk, and so no reason, for a request that never had a token
    return sum(not s.tokens for s in streams[3:])


async def wait(client: Client) -> None:
    """What has begun is finished; what has not begun waits for the resume."""
    async with asyncio.TaskGroup() as tasks:
        streams = await under_way(client, 3, tasks)
        await client.post("/pause?mode=wait")
        await asyncio.sleep(0.3)  # what was on its way to the client arrives
        assert all(s.ended for s in streams[:3])
        assert all(s.ended or not s.tokens for s in streams), "it stopped amid a request"
        await client.post("/resume")
    assert [(s.finish, len(s.tokens)) for s in streams] == whole(streams)


def test_a_pause_reaches_every_request_and_a_resume_goes_on(
    start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")  # vLLM's switch for these routes
    worker = start_worker("--kv-buffer-gib=0.004", "--flush-timeout-s=0.5")

    async def in_turn() -> None:
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            client = Client(worker, http)
            for act in (abort, keep, change, wait):
                await act(client)
                async with asyncio.timeout(10):
                    while not is_idle(await client.state()):
                        await asyncio.sleep(0.05)

    asyncio.run(in_turn())
    assert resharding(worker.state()).transitions > 4
    assert worker.stop() == 0
