"""Sends a row's bytes over a socket and reads what comes back, without repairing either."""

import contextlib
import http.client
import io
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from conformance.rows import ID, SALT, Request, Row

_TIMEOUT_S: Final = 60.0
_PIECE_BYTES: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer as it came. ``failure`` says why there is none, or only a part of one."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    failure: str = ""

    def header(self, name: str) -> str:
        """The first value of a header, or an empty string."""
        return next((v for n, v in self.headers if n.lower() == name), "")


class _Kept(io.BufferedReader):
    """A connection's reading side that answers, which follow one another, do not close."""

    def close(self) -> None:
        """Leave the stream open for the next answer."""


class _Connection:
    """A connection that may carry several requests."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.create_connection(address, timeout=_TIMEOUT_S)
        self._stream = _Kept(socket.SocketIO(self._socket, "r"))

    def makefile(self, *_: Any) -> io.BufferedReader:
        """What ``http.client`` reads answers from."""
        return self._stream

    def send(self, data: bytes, *, half_close: bool) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # answered before the end
            self._socket.sendall(data)
            if half_close:
                self._socket.shutdown(socket.SHUT_WR)

    def read(self, method: str, hang_up_after_bytes: int | None) -> Answer:
        response: Any = http.client.HTTPResponse(self, method=method)  # type: ignore[arg-type]
        try:
            response.begin()
        except (OSError, http.client.HTTPException) as error:
            return Answer(failure=type(error).__name__)
        headers, body, failure = tuple(response.getheaders()), b"", ""
        try:
            if hang_up_after_bytes is None:
                body = response.read()
            else:
                num_read = 0
                while num_read < hang_up_after_bytes and (piece := response.read1(_PIECE_BYTES)):
                    num_read += len(piece)
        except http.client.IncompleteRead as error:
            body, failure = error.partial, "IncompleteRead"
        except (OSError, http.client.HTTPException) as error:
            failure = type(error).__name__
        return Answer(status=response.status, headers=headers, body=body, failure=failure)

    def close(self) -> None:
        self._socket.close()


def send_row(row: Row, address: tuple[str, int], salt: str) -> list[Answer]:
    """Send all requests of a row. Answers are in the order of the requests."""
    answers: list[Answer] = []
    connection: _Connection | None = None
    for request in row.requests:
        try:
            if connection is None or not row.one_connection:
                if connection is not None:
                    connection.close()
                connection = _Connection(address)
            data = _filled(request.encode(), salt, _id_of(answers))
            connection.send(data, half_close=request.half_close)
        except OSError as error:
            answers.append(Answer(failure=type(error).__name__))
            continue
        answers += _read_all(connection, request)
    if connection is not None:
        connection.close()
    return answers


def _read_all(connection: _Connection, request: Request) -> Iterator[Answer]:
    method = request.raw.split(b" ", 1)[0].decode() if request.raw else request.method
    for _ in range(request.num_answers):
        yield connection.read(method, request.hang_up_after_bytes)


def _filled(data: bytes, salt: str, last_id: str) -> bytes:
    """Put the salt and the last id in. A mark is as long as what it stands for, or in the head."""
    assert len(salt) == len(SALT), "a body's length must not change"
    return data.replace(SALT.encode(), salt.encode()).replace(ID.encode(), last_id.encode())


def _id_of(answers: list[Answer]) -> str:
    for answer in reversed(answers):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            return str(json.loads(answer.body)["id"])
    return "none"
