"""Bodies and heads that are no request of the API, and unusual framing of some that are."""

import json
from collections.abc import Iterator
from typing import Final

from conformance.rows import API_KEY, MODEL, Request, Row, post
from conformance.tables.completions import TEXT

PATHS: Final = ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages")
BODIES: Final[dict[str, bytes]] = {
    "empty": b"",
    "no-json": b"hello",
    "cut": b'{"model": "' + MODEL.encode() + b'", "prompt"',
    "list": b"[]",
    "string": b'"a"',
    "null": b"null",
    "number": b"1e999",
    "empty-object": b"{}",
    "no-utf8": b'{"model": "\xff\xfe"}',
    "bom": b'\xef\xbb\xbf{"model": "' + MODEL.encode() + b'"}',
    "deep": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "long-number": b'{"max_tokens": ' + b"9" * 5000 + b"}",
    "twice-the-key": b'{"model": "a", "model": "b"}',
    "trailing": b"{} {}",
}
_GOOD: Final = json.dumps(
    {"model": MODEL, "prompt": TEXT, "max_tokens": 4, "temperature": 0}
).encode()
CONTENT_TYPES: Final = (
    "text/plain",
    "application/json; charset=utf-8",
    "application/x-www-form-urlencoded",
    "APPLICATION/JSON",
    "application/vnd.api+json",
    "",
    "json",
    "multipart/form-data",
)
KEYS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "wrong": (("Authorization", "Bearer wrong"),),
    "basic": (("Authorization", "Basic " + API_KEY),),
    "lower-case": (("authorization", "bearer " + API_KEY),),
    "empty": (("Authorization", ""),),
    "non-ascii": (("Authorization", "Bearer é"),),
}
HEADERS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "request-id": (("X-Request-Id", "my-request"),),
    "request-id-twice": (("X-Request-Id", "one"), ("X-Request-Id", "two")),
    "origin": (("Origin", "http://elsewhere"),),
    "accept-encoding": (("Accept-Encoding", "gzip"),),
    "accept-xml": (("Accept", "text/xml"),),
    "connection-close": (("Connection", "close"),),
    "cookie": (("Cookie", "a=b; c=d"),),
    "empty-value": (("X-Empty", ""),),
    "many": tuple((f"X-Many-{n}", "v") for n in range(60)),
    "trace": (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),),
    "data-parallel-rank": (("X-data-parallel-rank", "0"),),
    "data-parallel-rank-odd": (("X-data-parallel-rank", "x"),),
}


def rows() -> Iterator[Row]:
    """All rows of this table."""
    for path in PATHS:
        for name, body in BODIES.items():
            short = path == PATHS[0] and name in {"empty", "no-json", "list"}
            yield Row(name=f"body{path}/{name}", requests=(post(path, body),), is_short=short)
    for kind in CONTENT_TYPES:
        request = post(PATHS[0], _GOOD, headers=(("Content-Type", kind),))
        yield Row(name=f"content-type/{kind}", requests=(request,), is_short=kind == "text/plain")
    yield Row(name="key/missing", requests=(post(PATHS[0], _GOOD, with_key=False),), is_short=True)
    for name, headers in KEYS.items():
        yield Row(name=f"key/{name}", requests=(post(PATHS[0], _GOOD, headers=headers),))
    for name, headers in HEADERS.items():
        yield Row(name=f"header/{name}", requests=(post(PATHS[0], _GOOD, headers=headers),))
    yield from _framing()


def _framing() -> Iterator[Row]:
    good = post(PATHS[0], _GOOD)
    whole = good.encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: matrix\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {API_KEY}\r\n".encode()
    half = len(_GOOD) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (_GOOD[:half], _GOOD[half:]))
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    stream = json.loads(_GOOD) | {"stream": True, "max_tokens": 200, "ignore_eos": True}
    cases: dict[str, tuple[Request, ...]] = {
        "chunked": (Request(raw=chunked),),
        "chunked-trailers": (
            Request(raw=chunked[:-2] + b"Authorization: Bearer x\r\nX-T: 1\r\n\r\n"),
        ),
        "http-1.0": (Request(raw=whole.replace(b"HTTP/1.1", b"HTTP/1.0", 1)),),
        "expect-continue": (
            Request(raw=whole.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n", 1)),
        ),
        "pipelined": (Request(raw=whole * 3, num_answers=3),),
        "half-closed": (Request(raw=whole, half_close=True),),
        "cut-body": (Request(raw=whole[:-10], half_close=True),),
        "two-lengths": (
            Request(raw=whole.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n", 1)),
        ),
        "no-host": (Request(raw=whole.replace(b"Host: matrix\r\n", b"", 1)),),
        "absolute-form": (Request(raw=whole.replace(b" /v1", b" http://matrix/v1", 1)),),
        "no-http": (Request(raw=b"hello there\r\n\r\n"),),
        "get-with-body": (Request(path="/v1/models", body=b"{}"),),
        "abort": (
            post(PATHS[0], stream, hang_up_after_bytes=300),
            post(PATHS[0], stream, hang_up_after_bytes=1),
            good,
        ),
    }
    for name, requests in cases.items():
        short = name in {"chunked", "pipelined", "abort"}
        yield Row(name=f"framing/{name}", requests=requests, is_short=short)
    kept = (good, Request(path="/v1/models"), post(PATHS[0], b"{"), good)
    yield Row(name="framing/kept-alive", requests=kept, one_connection=True, is_short=True)
