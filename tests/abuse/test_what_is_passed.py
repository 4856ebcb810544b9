"""What the client sent is what the worker gets, and the other way round; no more, no less."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from support.fake_worker.odd import Act, Asked, OddWorker, answer, hang
from support.fake_worker.raw_client import BODY, RawClient, ask, request, status_of
from support.fake_worker.router import Router, router_before

ANSWER = answer()
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: router\r\n"


@asynccontextmanager
async def noting(act: Act = ANSWER) -> AsyncIterator[tuple[Router, list[Asked]]]:
    """A router before a worker that keeps what it is asked."""
    asked_all: list[Asked] = []

    async def note(asked: Asked) -> None:
        asked_all.append(asked)
        await act(asked)

    worker = OddWorker(answer=note)
    async with worker.running(), router_before(worker.url) as router:
        await router.until_serving(worker.url)
        yield router, asked_all


CUT_SHORT = [
    HEAD + b"Content-Length: 100\r\n\r\n" + BODY,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{}",
    b"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx",
    b"POST /v1/responses/a/cancel HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx",
]


async def test_an_upload_that_is_cut_short_reaches_no_worker() -> None:
    async with noting() as (router, asked):
        for part in CUT_SHORT:
            for is_last in (True, False):
                client = await RawClient.to(router.url)
                await client.send(part, is_last=is_last)
                await asyncio.sleep(0.1)
                client.close()
        assert status_of(await ask(router.url, request("/v1/models", b"", method="GET"))) == 200
        assert [a.path for a in asked] == ["/v1/models"]


ODD_BODIES = [
    b"",
    b"no JSON",
    b"\xff\xfe{\x00}\x00",  # UTF-16
    b'\xef\xbb\xbf{"model": "m"}',
    b'{"model": "\xff", "prompt": "\x00"}',
    b'{"model": "\\ud800"}',
    b'{"model": ["m"], "stream": "yes", "priority": {"a": NaN}}',
    b'{"model": "a", "model": "b", "priority": 1e999} and more',
    b'{"priority": ' + b"9" * 10_000 + b"}",
    b"[" * 100_000,
    b'{"prompt": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
    b'{"prompt": "' + b"x" * (1 << 20) + b'", "previous_response_id": 7}',
    b"\x00" * (1 << 20),
]


async def test_a_body_passes_byte_by_byte_whatever_it_is() -> None:
    async with noting() as (router, asked):
        for path in ("/v1/completions", "/v1/responses"):
            for body in ODD_BODIES:
                got = await ask(router.url, request(path, body))
                assert status_of(got) == 200, body[:80]
        assert [a.body for a in asked] == [*ODD_BODIES, *ODD_BODIES]


UNCLEAR = [
    HEAD + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Upgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    HEAD + b"Host: other\r\nContent-Length: 2\r\n\r\n{}",
]


async def test_a_request_of_which_it_is_not_clear_what_it_says_reaches_no_worker() -> None:
    async with noting() as (router, asked):
        for part in UNCLEAR:
            assert status_of(await ask(router.url, part)) == 400, part
        assert asked == []


async def test_headers_pass_as_they_came_without_trailers_and_without_additions() -> None:
    sent = (
        b"X-Twice: a\r\nX-Twice: b\r\nX-Name: caf\xc3\xa9\r\nX-Private: 1\r\nCookie: a=b\r\n"
        b"Connection: close, x-private\r\nX-Forwarded-For: 1.2.3.4\r\nTE: trailers\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer t\r\n\r\n"
    )
    async with noting() as (router, asked):
        assert status_of(await ask(router.url, HEAD + sent)) == 200
        lines = asked[0].head.split(b"\r\n")[1:-2]
        assert [line.lower() for line in lines if not line.lower().startswith(b"host:")] == [
            b"x-twice: a",
            b"x-twice: b",
            b"x-name: caf\xc3\xa9",
            b"cookie: a=b",
            b"x-forwarded-for: 1.2.3.4, 127.0.0.1",
            b"x-forwarded-proto: http",
            b"x-forwarded-host: router",
            b"content-length: 2",
        ]
        assert asked[0].body == b"{}"
        latin = await ask(router.url, request(headers=b"X-Name: caf\xe9\r\n"))
        assert status_of(latin) == 400
        assert b"x-name" in latin


async def test_answers_pass_with_each_header_once_and_no_cookie_is_kept() -> None:
    headers = (
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: w\r\nSet-Cookie: a=1\r\n"
        "Set-Cookie: b=2\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nX-Name: caf\u00e9\r\n"
    )
    async with noting(answer(headers=headers)) as (router, asked):
        await ask(router.url, request())
        got = await ask(router.url, request())
        head = got.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")[1:]
        assert sorted(head) == sorted(
            [
                b"content-type: application/json",
                b"date: thu, 01 jan 1970 00:00:00 gmt",
                b"server: w",
                b"set-cookie: a=1",
                b"set-cookie: b=2",
                b"x-name: caf\xc3\xa9",
                b"content-length: 12",
                b"connection: close",
            ]
        )
        assert all(b"cookie" not in a.head.lower() for a in asked)


BODILESS = [
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", b"content-length: 77"),
    ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 204"),
    ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.1 304"),
]


async def test_answers_without_a_body_stay_so() -> None:
    said = [each for _, each, _ in BODILESS]

    async def say_next(asked: Asked) -> None:
        await asked.say(said.pop(0))

    async with noting(say_next) as (router, _):
        for method, _, expected in BODILESS:
            got = await ask(router.url, request("/v1/models", b"", method=method))
            assert expected in got
            assert got.endswith(b"\r\n\r\n")
            assert b"chunked" not in got


async def test_a_client_that_has_finished_sending_gets_its_answer_soon_or_late() -> None:
    waits = [0.1, 2.6]

    async def slow(asked: Asked) -> None:
        await asyncio.sleep(waits.pop(0))
        await ANSWER(asked)

    async with noting(slow) as (router, _):
        for _ in range(2):
            client = await RawClient.to(router.url)
            await client.send(request(), is_last=True)
            got = (await client.until_closed()).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
            assert got.startswith(b"HTTP/1.1 200 OK"), got
            assert got.endswith(b'{"ok": true}')


async def test_a_client_that_is_gone_after_it_finished_sending_ends_its_request() -> None:
    async with noting(hang) as (router, asked):
        client = await RawClient.to(router.url)
        await client.send(request())
        while not asked:
            await asyncio.sleep(0.02)
        client.close()
        async with asyncio.timeout(5):
            while await router.metric('seesaw_router_requests_total{status="499"}') < 1:
                await asyncio.sleep(0.1)
