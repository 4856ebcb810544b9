"""Connections to workers: one pool for clients' requests, another for events and health.

They are separate so that a worker can still be followed when it has as many requests as its pool
allows.
"""

import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import cast

import aiohttp
from aiohttp import AddrInfoType, StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, RawResponseMessage
from multidict import CIMultiDict

CONNECT_TIMEOUT_S = 5.0
# The most bytes that are received at once, and that wait to be read.
_RECEIVE_BYTES = 32 << 10
_CHUNK_BYTES = 16 << 10
_MAX_INTERIM = 100
_IDLE_S = 3.0
_MAX_PER_WORKER = 4096
_SHOWN_CHARACTERS = 200
# A worker whose machine has gone acknowledges nothing: after 15 s of silence, three probes.
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 15),
    (socket.TCP_KEEPINTVL, 5),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 30_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """requests: kept open between requests. fresh: each request opens its own.

    control: for events and health.
    """

    requests: aiohttp.ClientSession
    fresh: aiohttp.ClientSession
    control: aiohttp.ClientSession


@dataclass(slots=True, kw_only=True)
class Sending:
    """Whether a request got a reused connection. :data:`sending` is set while it is sent."""

    is_reused: bool = True


sending: ContextVar[Sending | None] = ContextVar("sending", default=None)


@asynccontextmanager
async def open_connections() -> AsyncIterator[Connections]:
    """Yields the pools, which are closed when the context ends."""
    async with (
        _session(keeps=True) as requests,
        _session(keeps=False) as fresh,
        _session(keeps=False) as control,
    ):
        yield Connections(requests=requests, fresh=fresh, control=control)


def error_text(error: Exception) -> str:
    """Returns an error's message, made safe for one line of a log: a peer may have written it."""
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    line = " ".join((text or repr(error)).split())[:_SHOWN_CHARACTERS]
    return "".join(c if c.isprintable() else "?" for c in line)


class _Connector(aiohttp.TCPConnector):
    """Opens connections to workers, and bounds what is buffered of their answers."""

    def __init__(self, *, keeps: bool) -> None:
        super().__init__(
            limit=0,
            limit_per_host=_MAX_PER_WORKER,
            force_close=not keeps,
            keepalive_timeout=_IDLE_S if keeps else None,
            socket_factory=_socket,
        )
        # aiohttp has no public way to use a protocol class of one's own.
        self._factory = cast("partial[ResponseHandler]", partial(_Answers, loop=self._loop))


def _session(*, keeps: bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=_Connector(keeps=keeps),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        request_class=_Request,
        auto_decompress=False,
        read_bufsize=_CHUNK_BYTES,
    )


class _Request(aiohttp.ClientRequest):
    """A request without the headers that aiohttp adds: clients send the headers they want."""

    _skip_auto_headers = CIMultiDict[None]({"Content-Type": None})

    def update_auto_headers(self, _skipped: Iterable[str] | None) -> None:
        pass


class _Answers(ResponseHandler):
    """Reads the answers on a connection. Too many interim ones make an answer malformed."""

    _num_interim = 0

    def close(self) -> None:
        """Close at once if the request has not been sent in full: nobody needs the rest."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.transport.abort()
        super().close()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if data[0].code >= 200:
            self._num_interim = 0
        else:
            self._num_interim += 1
        if self._num_interim <= _MAX_INTERIM:
            super().feed_data(data, size)
        elif self.transport is not None and not self.transport.is_closing():
            self.transport.close()
            problem = f"it has more than {_MAX_INTERIM} interim ones"
            self.set_exception(HttpProcessingError(code=502, message=problem))


def _socket(address: AddrInfoType) -> socket.socket:
    if (current := sending.get()) is not None:
        current.is_reused = False
    family, kind, protocol, _, _ = address
    connection = socket.socket(family, kind, protocol)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    return connection
