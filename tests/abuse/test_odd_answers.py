"""Workers whose answers stall, break or are no HTTP: the client is told, and so is the operator."""

import asyncio
import json
from contextlib import AsyncExitStack

import aiohttp
import pytest

from support.fake_worker.odd import (
    EVENTS_HEAD,
    Asked,
    OddWorker,
    answer,
    by_prompt,
    close,
    cut,
    event,
    events,
    hang,
    raw,
    slow,
)
from support.fake_worker.router import routed
from support.fake_worker.waiting import until


async def test_a_worker_that_falls_silent_altogether_loses_its_requests_to_another() -> None:
    silent = OddWorker(events=raw(EVENTS_HEAD + event(), hang), answer=hang)
    flags = ("--max-worker-silence-s=6",)
    async with routed(silent, flags=flags) as router:
        asking = asyncio.create_task(router.ask())
        await until(lambda: silent.asked == 1)
        silent.events, silent.health = hang, hang
        await asyncio.sleep(5)
        assert await router.metric("seesaw_router_retries_total ") == 0

        async def is_retried() -> bool:
            return await router.metric("seesaw_router_retries_total ") == 1

        await until(is_retried, at_most_s=4)
        silent.events, silent.answer = events(event()), answer()
        assert (await asyncio.wait_for(asking, 15))[0] == 200


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
SHORT = ("--max-answer-silence-s=0.5",)
STALLED = {
    "before its head": hang,
    "within its head": raw(OK + b"content-le", hang),
    "within a short body": raw(OK + b"content-length: 9\r\n\r\nabc", hang),
    "before the first chunk": raw(CHUNKED, hang),
}
BEGUN = {
    "a stall": raw(CHUNKED + b"1\r\na\r\n", hang),
    "a reset": raw(CHUNKED + b"1\r\na\r\n", slow(0.2, cut)),
    "an end without the last chunk": raw(CHUNKED + b"1\r\na\r\n", slow(0.2, close)),
    "a chunk that is none": raw(
        CHUNKED + b"1\r\na\r\n",
        slow(0.2, raw(b"zz\r\n", hang)),
    ),
    "a long body that is cut": raw(
        OK + b"content-length: 9000000\r\n\r\n" + b"a" * 70000, slow(0.2, close)
    ),
}


async def test_an_answer_that_stalls_is_ended_as_told_by_a_flag() -> None:
    async with routed(OddWorker(answer=by_prompt(STALLED | BEGUN)), flags=SHORT) as router:
        for name in STALLED:
            status, body = await router.ask(prompt=name)
            assert status == 502, name
            assert "sent nothing for too long" in json.loads(body)["error"]["message"]
        for number, name in enumerate(BEGUN, start=1):
            with pytest.raises(aiohttp.ClientPayloadError):
                await router.ask(prompt=name)
            assert await router.metric("seesaw_router_broken_answers_total ") == number, name
        assert (await router.ask())[0] == 200


INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"


async def without_end(asked: Asked) -> None:
    while True:
        await asked.say(INTERIM * 1000)


MALFORMED = {
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", close),
    "no status": raw(b"HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n", close),
    "a status above all": raw(b"HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n"),
    "a switch of protocols": raw(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", close),
    "a later HTTP": raw(b"HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n", close),
    "a huge header": raw(OK + b"a: " + b"b" * 100_000 + b"\r\n\r\n", close),
    "many headers": raw(OK + b"" + b"a: b\r\n" * 10_000 + b"\r\n", close),
    "a header without a name": raw(OK + b": b\r\ncontent-length: 0\r\n\r\n", close),
    "a control character": raw(OK + b"a: b\0c\r\ncontent-length: 0\r\n\r\n", close),
    "a length that is none": raw(OK + b"content-length: x\r\n\r\nab", close),
    "a negative length": raw(OK + b"content-length: -1\r\n\r\nab", close),
    "two lengths": raw(OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab", close),
    "a body that is cut": raw(OK + b"content-length: 9\r\n\r\nab", close),
    "a first chunk that is none": raw(CHUNKED + b"zz\r\nab", close),
    "interim answers without end": without_end,
    "nothing": close,
    "a reset": cut,
}


async def test_a_malformed_answer_is_a_502_of_its_worker() -> None:
    worker = OddWorker(answer=by_prompt(MALFORMED))
    async with routed(worker, flags=SHORT) as router:
        for number, name in enumerate(MALFORMED, start=1):
            status, body = await router.ask(prompt=name)
            assert status == 502, (name, body)
            error = json.loads(body)["error"]
            assert error["type"] == "server_error", name
            assert worker.url in error["message"], name
            assert error["message"].isprintable(), name
            assert len(error["message"]) < 300, name
            assert await router.metric('seesaw_router_requests_total{status="502"}') == number
        failures = f'failures_total{{reason="malformed",worker="{worker.url}"'
        assert await router.metric("seesaw_router_worker_" + failures) >= 12
        assert (await router.ask())[0] == 200


async def test_a_few_interim_answers_are_skipped() -> None:
    async with routed(OddWorker(answer=raw(INTERIM * 3, answer()))) as router:
        assert await router.ask() == (200, b'{"ok": true}')


async def test_a_body_that_is_not_what_its_encoding_says_passes_as_it_is() -> None:
    lie = answer(b"no gzip at all", headers="content-encoding: gzip\r\n")
    async with routed(OddWorker(answer=lie)) as router:
        http = aiohttp.ClientSession(auto_decompress=False)
        async with http, http.post(f"{router.url}/v1/completions", json={}) as response:
            assert (response.status, await response.read()) == (200, b"no gzip at all")


async def test_long_answers_and_bodies_that_went_stay_out_of_memory() -> None:
    size = 300 << 20
    head = OK + f"content-length: {size}\r\n\r\n".encode()

    async def long(asked: Asked) -> None:
        await asked.say(head)
        for _ in range(size >> 20):
            await asked.say(b"a" * (1 << 20))

    worker = OddWorker(
        answer=by_prompt({"long": long, "streams": raw(CHUNKED + b"1\r\na\r\n", hang)})
    )
    async with routed(worker) as router:
        url, before = f"{router.url}/v1/completions", router.memory_bytes
        async with router.http.post(url, json={"prompt": "long"}) as response:
            assert response.content_length == size
            await asyncio.sleep(1.0)  # a client that does not read
            assert router.memory_bytes - before < 60 << 20
            length = 0
            async for part in response.content.iter_any():
                length += len(part)
        assert length == size
        async with AsyncExitStack() as stack:
            for _ in range(12):
                body = {"prompt": "streams", "padding": "x" * (20 << 20)}
                response = await stack.enter_async_context(router.http.post(url, json=body))
                await response.content.readany()
            assert router.memory_bytes - before < 150 << 20
