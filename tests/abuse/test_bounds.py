"""What clients may take of the router: bytes, connections and time."""

import asyncio
import contextlib
import signal
import time

from support.fake_worker.odd import Asked, OddWorker, gush, hang
from support.fake_worker.raw_client import RawClient, ask, request, status_of
from support.fake_worker.router import router_before
from support.fake_worker.waiting import until

MOST_SENT = 50 << 20
POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
QUICK = (
    "--max-client-header-s=1",
    "--max-client-body-s=1",
    "--max-client-idle-s=1",
    "--max-client-reader-s=1",
)


FULL_CHUNK = b"80000\r\n" + b"a" * 0x80000 + b"\r\n"
STOPPED = {  # what has come, and the status of the answer, if any
    b"": 0,
    b"\r\n": 408,
    b"GET /v1/mod": 408,
    POST + b"X: y\r\n": 408,
    POST + b"Content-Length: 9\r\n\r\n{": 408,
    POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n": 408,
    POST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n": 100,
}
ENDLESS = [  # how it begins, what comes again and again, the status
    (b"GET /" + b"a" * 9000, b"a", 414),
    (POST + b"X: ", b"a", 431),
    (POST, b"X: y\r\n", 431),
    (b"", b"\r\n", 431),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n1", b";x=y", 400),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", 431),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n" + FULL_CHUNK + b"0\r\nX: ", b"y", 400),
    (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", b"", 501),
    (POST + b"Content-Length: 99999999999\r\n\r\n", b"a", 413),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"a" * 1024 + b"\r\n", 413),
    (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", b"a", 404),
]


async def test_a_client_that_stops_sending_is_closed() -> None:
    async with router_before("http://127.0.0.1:9", flags=QUICK) as router:
        got = await asyncio.gather(*(ask(router.url, data, at_most_s=5) for data in STOPPED))
    assert [status_of(each) for each in got] == list(STOPPED.values())


async def test_endless_input_is_refused_and_not_read_on() -> None:
    flags = ("--max-body-bytes=1000000",)
    async with router_before("http://127.0.0.1:9", flags=flags) as router:
        for begin, more, status in ENDLESS:
            counted = f'seesaw_router_requests_total{{status="{status}"}}'
            before = await router.metric(counted)
            client = await RawClient.to(router.url)
            got = asyncio.create_task(client.until_closed())
            sent = await flood(client, begin, more, got)
            assert status_of(await got) == status, (begin, await got)
            assert sent < MOST_SENT, begin
            assert await router.metric(counted) == before + 1


async def flood(client: RawClient, begin: bytes, more: bytes, until: "asyncio.Task[bytes]") -> int:
    """Send without end. Returns how many bytes went out until the other side closed."""
    piece, sent = more * (65536 // max(1, len(more))), 0
    with contextlib.suppress(ConnectionError):
        await client.send(begin)
        while piece and sent < MOST_SENT and not until.done():
            await client.send(piece)
            sent += len(piece)
    return sent


async def test_idle_connections_make_room_for_those_that_ask() -> None:
    async with (
        OddWorker().running() as worker,
        router_before(worker.url, flags=("--max-client-connections=20",)) as router,
    ):
        await router.until_serving(worker.url)
        idle = [await RawClient.to(router.url) for _ in range(100)]
        assert status_of(await ask(router.url, request())) == 200
        for client in idle:
            client.close()


async def test_where_all_connections_are_busy_more_are_refused() -> None:
    async with (
        OddWorker(answer=hang).running() as worker,
        router_before(worker.url, flags=("--max-client-connections=3",)) as router,
    ):
        await router.until_serving(worker.url)
        busy = [await RawClient.to(router.url) for _ in range(3)]
        for client in busy:
            await client.send(request("/tokenize"))
        await until(lambda: worker.asked == 3)
        assert status_of(await ask(router.url, b"")) == 503
        for client in busy:
            client.close()


async def test_bodies_of_all_requests_together_are_bounded_and_let_go_with_the_answer() -> None:
    flags = ("--max-client-held-bytes=1000000",)

    async def endless(asked: Asked) -> None:
        await asked.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await hang(asked)

    worker = OddWorker(answer=endless)
    async with worker.running(), router_before(worker.url, flags=flags) as router:
        await router.until_serving(worker.url)
        half = [await RawClient.to(router.url) for _ in range(2)]
        for client in half:
            await client.send(POST + b"Content-Length: 900000\r\n\r\n" + b"a" * 450_000)
        await until(lambda: not any(client.num_unsent for client in half))
        for _ in range(5):  # and until what has come is read
            await router.workers()
        big = request(body=b"a" * 300_000)
        head = await head_of(router.url, big)
        assert status_of(head) == 503
        assert b"retry-after" in head
        for client in half:
            client.close()

        async def has_room() -> bool:  # once the router has noticed that they have gone
            return status_of(await head_of(router.url, big)) == 200

        await until(has_room)
        open_answers = [await RawClient.to(router.url) for _ in range(10)]
        for client in open_answers:  # each is let go before the next comes
            await client.send(big)
            assert await client.reader.readline() == b"HTTP/1.1 200 OK\r\n"
        for client in open_answers:
            client.close()


async def head_of(url: str, data: bytes) -> bytes:
    """The head of the answer to these bytes, whatever follows."""
    client = await RawClient.to(url)
    await client.send(data)
    head = await client.reader.readuntil(b"\r\n\r\n")
    client.close()
    return head


async def test_answers_that_clients_do_not_take_are_bounded_together() -> None:
    flags = ("--max-client-held-bytes=8000000",)
    worker = OddWorker(answer=gush)
    async with worker.running(), router_before(worker.url, flags=flags) as router:
        await router.until_serving(worker.url)
        before = router.memory_bytes
        deaf = [await RawClient.to(router.url) for _ in range(300)]
        for client in deaf:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(request())
        async with asyncio.timeout(30):
            while await router.metric('seesaw_router_requests_total{status="499"}') < 250:
                await asyncio.sleep(0.1)
        assert router.memory_bytes - before < 64 << 20
        assert await router.metric("seesaw_router_untaken_answers_total ") >= 250
        for client in deaf:
            client.close()


async def test_clients_that_read_steadily_have_their_answers_whole() -> None:
    size = 8 << 20

    async def long(asked: Asked) -> None:
        await asked.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size >> 16):
            await asked.say(b"a" * 65536)

    async def read(client: RawClient) -> int:
        await client.reader.readuntil(b"\r\n\r\n")
        length = 0
        while length < size:
            length += len(part := await client.reader.read(1 << 16))
            if not part:
                break
            await asyncio.sleep(0.005)
        client.close()
        return length

    worker = OddWorker(answer=long)
    flags = ("--max-client-held-bytes=300000",)
    async with worker.running(), router_before(worker.url, flags=flags) as router:
        await router.until_serving(worker.url)
        deaf = [await RawClient.to(router.url) for _ in range(24)]
        for client in deaf:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(request())

        async def are_as_many_as_may_be() -> bool:
            return await router.metric("seesaw_router_untaken_answers_total ") == 24 - 16

        await until(are_as_many_as_may_be)
        steady = [await RawClient.to(router.url) for _ in range(8)]
        for client in steady:
            await client.send(request())
        assert await asyncio.gather(*map(read, steady)) == [size] * len(steady)
        assert await router.metric("seesaw_router_untaken_answers_total ") > 24 - 16
        for client in deaf:
            client.close()


async def test_heads_of_very_many_lines_take_little() -> None:
    async with router_before("http://127.0.0.1:9") as router:
        before = router.memory_bytes
        heads = [ask(router.url, POST + b"a:\r\n" * 62_000) for _ in range(100)]
        assert {status_of(each) for each in await asyncio.gather(*heads)} == {431}
        assert router.memory_bytes - before < 64 << 20


async def test_a_client_that_reads_nothing_of_its_answer_is_closed() -> None:
    worker = OddWorker(answer=gush)
    async with worker.running(), router_before(worker.url, flags=QUICK) as router:
        await router.until_serving(worker.url)
        client = await RawClient.to(router.url)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request())

        async def is_counted() -> bool:
            return await router.metric('seesaw_router_requests_total{status="499"}') == 1

        await until(is_counted, at_most_s=8)
        client.close()


async def test_an_unfinished_upload_does_not_hold_the_end_of_the_router() -> None:
    async with router_before("http://127.0.0.1:9", flags=QUICK) as router:
        clients = [await RawClient.to(router.url) for _ in range(3)]
        await clients[1].send(POST)
        await clients[2].send(POST + b"Content-Length: 9\r\n\r\n{")
        await until(lambda: router.num_clients == 3)
        router.signal(signal.SIGTERM)
        began_s = time.monotonic()
        await router.ended()
        assert time.monotonic() - began_s < 5
        for client in clients:
            client.close()


async def test_many_requests_on_one_connection_are_answered_in_turn_or_not_at_all() -> None:
    async with OddWorker().running() as worker, router_before(worker.url) as router:
        await router.until_serving(worker.url)
        one = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
        client = await RawClient.to(router.url)
        await client.send(one * 5, is_last=True)
        assert (await client.until_closed()).count(b"HTTP/1.1 200") == 5
        await ask(router.url, one * 5000)
        assert status_of(await ask(router.url, request())) == 200
