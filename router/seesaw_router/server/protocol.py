"""Connections of clients: uvicorn's HTTP/1.1 with bounds on bytes and time.

uvicorn bounds neither heads nor waits, treats trailers as headers, and closes the connection of a
client that has only finished sending. Requests that are refused here reach no application, but
their errors have the form of OpenAI's API all the same.
"""

import asyncio
import re
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from seesaw_router.server.clients import Clients, Stage
from seesaw_router.server.exchange import Leaving, error_body

_MAX_LINE_BYTES = 8 << 10
_MAX_PIPELINED = 16
_UNSENT_BYTES = 32 << 10  # beyond it an answer waits for its client
_OVERHEAD_PER_BODY_BYTE = 16  # of chunks: their sizes and extensions
_UNENCODED = re.compile(rb"[^\x21-\x7e]")
_INVALID = (400, "this is not a valid HTTP/1.1 request")
_LINGER_S = 1.0
_MAX_DISCARDED_BYTES = 256 << 10
_PROBE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Closing:
    """The transport of one request, which is closed slowly if the client still sends."""

    def __init__(self, protocol: "ClientProtocol", transport: asyncio.Transport) -> None:
        self._protocol = protocol
        self._transport = transport
        self.write = transport.write
        self.is_closing = transport.is_closing

    def close(self) -> None:
        if self._protocol.stage is Stage.BODY:
            self._protocol.close_slowly()
        else:
            self._transport.close()


class ClientProtocol(HttpToolsProtocol):
    """One client's connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        clients: Clients,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.clients = clients
        self.stage = Stage.IDLE
        self.since_s = self.loop.time()
        self.num_requests = 0
        self.body_bytes = 0
        self.body_bytes_checked = 0  # at the last check, as is the next one
        self.unsent_bytes = 0
        self.unsent_since_s = 0.0
        self.has_ended = False  # the client sends nothing more
        self.probed_s = 0.0
        self._running: RequestResponseCycle | None = None
        self._leaving = Leaving()
        self._most_headers = clients.limits.headers
        self._is_refused = False
        self._discarded_bytes = 0
        self._refusal = _INVALID  # the status and error if the parser stops
        self._is_in_head = True
        self._raw_bytes = 0
        self._raw_bytes_at_body = 0  # when the last part of a body came
        self._trailer_bytes = 0

    # ---- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._closing = _Closing(self, transport)
        transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        if not self.clients.admit(self):
            self.refuse(503, "too many connections; try again later")

    def pause_writing(self) -> None:
        super().pause_writing()
        self.clients.falls_behind(self)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.clients.catches_up(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.clients.discard(self)
        self.clients.bodies.release(sum(len(cycle.body) for cycle, _ in self.pipeline))
        self.pipeline.clear()
        self._disconnect_application()
        super().connection_lost(exc)
        del self.cycle, self._closing  # both refer back here; this breaks the cycle

    def abort(self) -> None:
        """Close at once, even during a request."""
        self._disconnect_application()
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_refused or self.transport.is_closing():
            self._discarded_bytes += len(data)
            if self._discarded_bytes > _MAX_DISCARDED_BYTES:
                self.flow.pause_reading()
            return
        if self.stage is Stage.IDLE:
            self.enter(Stage.HEAD)
        self._raw_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # no other protocol is supported: the request is answered like any other
        except httptools.HttpParserError:
            self.refuse(*self._refusal)
            return
        self._bound_raw_bytes()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Note that the client has finished sending, or has left. Returns whether to keep it open.

        Both look the same until something is written to the client: see :meth:`probe`.
        """
        if self.stage is not Stage.ANSWER or self._is_refused or self.transport.is_closing():
            return False
        if not self.has_ended:
            self.has_ended, self.probed_s = True, self.loop.time()
            self.cycle.keep_alive = False
        return True

    @property
    def may_be_gone(self) -> bool:
        """Whether the client may have left unnoticed, because nothing is read from it."""
        return self.has_ended or (self.stage is Stage.ANSWER and self.flow.read_paused)

    def probe(self) -> None:
        """Find out whether a client that sends nothing still reads. Called once a second.

        If no answer has begun, an interim response is sent. Every HTTP/1.1 client skips it, and
        the host of a client that has left resets the connection.
        """
        if self.transport.is_closing():
            return
        self.probed_s = self.loop.time()
        if self.clients.is_reset(self.transport):
            self.abort()
            return
        cycle = self._running
        if (
            cycle is not None
            and not cycle.response_started
            and cycle.scope["http_version"] == "1.1"
        ):
            self.transport.write(_PROBE)

    def shutdown(self) -> None:
        self.clients.is_ending = True
        if self.stage in (Stage.IDLE, Stage.HEAD):
            self.transport.close()
            return
        super().shutdown()

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error, and close. An answer that has begun is aborted instead."""
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        self.clients.refused(status)
        cycle = self._running
        if cycle is not None and (cycle.response_started or self.stage is Stage.ANSWER):
            self.abort()  # an error would be read as, or in, the answer
            return
        body = error_body(status, message)
        phrase = HTTPStatus(status).phrase
        retry = "retry-after: 1\r\n" if status in (429, 503) else ""
        head = (
            f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\n{retry}"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self._disconnect_application()
        self.close_slowly()

    def close_slowly(self) -> None:
        """Close while the client still sends: an abrupt end could lose the answer."""
        self._is_refused = True
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.abort)

    # ---- callbacks of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        if self.stage is not Stage.ANSWER:
            self.enter(Stage.HEAD)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > _MAX_LINE_BYTES:
            self._stop(414, f"the request line is longer than {_MAX_LINE_BYTES} bytes")
        if _UNENCODED.search(url):
            self._stop(400, "the request target has bytes that must be percent-encoded")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            if len(self.headers) >= self._most_headers:
                self._stop(431, f"there are more than {self._most_headers} headers")
            super().on_header(name, value)
            return
        # A trailer never becomes a header, since nothing has checked it.
        self._trailer_bytes += len(name) + len(value) + 4
        if self._trailer_bytes > self.clients.limits.header_bytes:
            self._stop(431, "the trailers are larger than headers may be")

    def on_headers_complete(self) -> None:
        limits = self.clients.limits
        num_bytes = len(self.url)
        codings = []
        for name, value in self.headers:
            num_bytes += len(name) + len(value) + 4
            if name == b"transfer-encoding":
                codings.append(value.strip().lower())
        if num_bytes > limits.header_bytes:
            self._stop(431, f"the headers are larger than {limits.header_bytes} bytes")
        if codings and codings != [b"chunked"]:
            self._stop(501, "the only supported transfer coding is chunked")
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._stop(429, f"more than {_MAX_PIPELINED} requests wait on this connection")
        super().on_headers_complete()
        self.cycle.transport = cast("asyncio.Transport", self._closing)
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False
        self._is_in_head = False
        self._raw_bytes = self._raw_bytes_at_body = self._trailer_bytes = 0
        self.body_bytes = self.body_bytes_checked = 0
        if not self.pipeline:
            self.enter(Stage.BODY)

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        self._raw_bytes_at_body = self._raw_bytes
        if self.pipeline and not self.clients.bodies.acquire(  # it waits for the one before it
            len(body), len(self.cycle.body) + len(body)
        ):
            self._stop(503, "the router holds as many bytes of requests as it may")
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._raw_bytes = 0
        if self.stage is Stage.BODY:
            self.enter(Stage.IDLE if self.cycle.response_complete else Stage.ANSWER)
            self.flow.resume_reading()  # to notice when the client leaves
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Note that an answer was sent. If the body had not ended, the connection closes."""
        self.server_state.total_requests += 1
        self.num_requests += 1
        self._running = None
        if self._is_refused or self.transport.is_closing():
            return
        if self.stage is Stage.BODY:
            self.close_slowly()
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self.clients.bodies.release(len(cycle.body))
            if not self.pipeline:
                self.flow.resume_reading()
            self.enter(Stage.BODY if cycle.more_body else Stage.ANSWER)
            self._start_asgi_task(cycle, app)
        else:
            self.flow.resume_reading()
            self.enter(Stage.IDLE)
            if self.has_ended:
                self.transport.close()

    # ---- bounds

    def enter(self, stage: Stage) -> None:
        """Enter a stage, and restart its clock."""
        self.stage = stage
        self.since_s = self.loop.time()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        extensions: dict[str, Any] = {Leaving.EXTENSION: self._leaving}
        cycle.scope["extensions"] = extensions
        super()._start_asgi_task(cycle, app)

    def _disconnect_application(self) -> None:
        """Tell the running request that its client has left."""
        self._leaving.leave()
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
            self._running = None

    def _bound_raw_bytes(self) -> None:
        """Bound the bytes that the parser consumes without calling back."""
        bound = self.clients.limits.header_bytes
        if not self._is_in_head:
            is_thin = self._raw_bytes > bound + _OVERHEAD_PER_BODY_BYTE * self.body_bytes
            if is_thin or self._raw_bytes - self._raw_bytes_at_body > bound:
                self.refuse(400, "the chunks of the body are too small")
        elif self._raw_bytes > bound:
            self.refuse(431, f"the headers are larger than {bound} bytes")

    def _stop(self, status: int, message: str) -> None:
        """Refuse the request, from within a callback of the parser."""
        self._refusal = (status, message)
        raise ValueError(message)
