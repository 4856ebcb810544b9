"""One row of the matrix: what is sent, as bytes, and how strictly its answers are compared.

Bodies are built here rather than by an HTTP library, because libraries repair what is malformed.
"""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MODEL: Final = "conformance"
"""The served model's name on every subject."""

API_KEY: Final = "key-of-the-matrix"
SALT: Final = "@SALT@"
"""Replaced by a word of the subject's own, so that no subject finds another's prompt cached."""

ID: Final = "@ID@"
"""Replaced by the ``id`` of the row's previous answer."""


class Compare(StrEnum):
    """How the answers of two subjects are compared."""

    EXACT = "exact"  # status, headers and content
    SHAPE = "shape"  # status, headers, and the types in the content: for unseeded sampling
    HEAD = "head"  # status and headers: for content that is a measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    raw: sent as it stands instead of the fields before it.
    num_answers: how many answers ``raw`` asks for, when it holds pipelined requests.
    hang_up_after_bytes: close the connection once that much of the answer's body is there, which
        is then not compared.
    half_close: shut the sending side after the request.
    """

    method: str = "GET"
    path: str = "/"
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    with_key: bool = True
    raw: bytes | None = None
    num_answers: int = 1
    hang_up_after_bytes: int | None = None
    half_close: bool = False

    def encode(self) -> bytes:
        """The request as it goes over the wire."""
        if self.raw is not None:
            return self.raw
        headers = [("Host", "matrix"), *self.headers]
        names = {name.lower() for name, _ in headers}
        if self.with_key and "authorization" not in names:
            headers.append(("Authorization", f"Bearer {API_KEY}"))
        if self.body is not None:
            if "content-type" not in names:
                headers.append(("Content-Type", "application/json"))
            headers.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers)]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + (self.body or b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A named sequence of requests, sent one after the other to each subject.

    is_short: part of the short form that runs in CI.
    one_connection: all requests of the row share a connection.
    """

    name: str
    requests: tuple[Request, ...]
    compare: Compare = Compare.EXACT
    is_short: bool = False
    one_connection: bool = False


def post(path: str, body: Any, **more: Any) -> Request:
    """A POST of JSON, NaN and lone surrogates included; ``bytes`` go as they are."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(method="POST", path=path, body=encoded, **more)
