"""Clients that leave, whatever they had sent: their requests end, and nothing of them stays."""

import asyncio
import signal
import socket
import struct

import pytest

from support.fake_worker.odd import Act, OddWorker, gush, hang
from support.fake_worker.raw_client import RawClient, request, status_of
from support.fake_worker.router import Router, router_before
from support.fake_worker.waiting import until

POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
CHUNK = b"19000\r\n" + b"a" * 0x19000 + b"\r\n"
SENT = {
    "a small body": [request()],
    "a body of more than one read": [request(body=b"a" * 200_000)],
    "a body after its head": [POST + b"Content-Length: 200000\r\n\r\n", b"a" * 200_000],
    "a body in chunks": [POST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n"],
    "a second request at once": [POST + b"Content-Length: 1\r\n\r\na" + request()],
    "a second request later": [POST + b"Content-Length: 1\r\n\r\na", request()],
}


async def is_idle(router: Router) -> bool:
    return await router.metric("seesaw_router_running_requests") == 0


@pytest.mark.parametrize("name", SENT)
async def test_a_client_that_leaves_ends_its_request_whatever_it_had_sent(name: str) -> None:
    worker = OddWorker(answer=hang)
    async with worker.running(), router_before(worker.url) as router:
        await router.until_serving(worker.url)
        client = await RawClient.to(router.url)
        for number, part in enumerate(SENT[name]):
            if number > 0 and len(SENT[name][0]) > len(POST) + 30:
                await until(lambda: worker.asked == 1)
            await client.send(part)
        await until(lambda: worker.asked == 1)
        reset = struct.pack("ii", 1, 0)
        client.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, reset
        )
        client.close()
        await until(lambda: is_idle(router))


async def test_bodies_that_wait_for_the_request_before_them_are_bounded_too() -> None:
    ahead = POST + b"Content-Length: 1\r\n\r\na" + POST + b"Content-Length: 3000000\r\n\r\n"
    worker = OddWorker(answer=hang)
    flags = ("--max-client-held-bytes=1000000",)
    async with worker.running(), router_before(worker.url, flags=flags) as router:
        await router.until_serving(worker.url)
        before = router.memory_bytes
        clients = [await RawClient.to(router.url) for _ in range(100)]
        for client in clients:
            client.writer.write(ahead + b"a" * 3_000_000)
        await until(lambda: worker.asked > 0)
        await until(lambda: has_refused(router))
        assert router.memory_bytes - before < 64 << 20
        for client in clients:
            client.writer.transport.abort()
        await until(lambda: is_idle(router))
        asked = worker.asked
        client = await RawClient.to(router.url)
        await client.send(request(body=b"a" * 500_000))
        await until(lambda: worker.asked == asked + 1)
        client.close()


async def has_refused(router: Router) -> bool:
    return await router.metric('seesaw_router_requests_total{status="503"}') > 0


async def test_whoever_still_waits_when_the_drain_is_over_is_told_so() -> None:
    worker = OddWorker(answer=hang)
    flags = ("--drain-timeout-s=1",)
    async with worker.running(), router_before(worker.url, flags=flags) as router:
        await router.until_serving(worker.url)
        sent = (request(), POST + b"Content-Length: 9\r\n\r\n{")
        clients = [await RawClient.to(router.url) for _ in sent]
        for client, part in zip(clients, sent, strict=True):
            await client.send(part)
        await until(lambda: worker.asked == 1)
        router.signal(signal.SIGTERM)
        for client in clients:
            got = await client.until_closed()
            assert status_of(got) == 503
            assert b"retry-after" in got
        assert await router.ended() == 0


@pytest.mark.parametrize("answer", [hang, gush])
async def test_a_router_that_is_told_twice_to_end_does_so_at_once(answer: Act) -> None:
    worker = OddWorker(answer=answer)
    async with worker.running(), router_before(worker.url) as router:
        await router.until_serving(worker.url)
        client = await RawClient.to(router.url)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())
        await until(lambda: worker.asked == 1)
        for _ in range(2):
            router.signal(signal.SIGTERM)
            await until(lambda: "again to stop now" in router.logged())
        async with asyncio.timeout(5):
            await router.ended()
        client.close()
