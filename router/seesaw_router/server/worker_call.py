"""Sends one request to one worker and reads the answer; all that can go wrong has a type."""

import asyncio
import re
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.http_exceptions import TransferEncodingError
from yarl import URL

from seesaw_router.dispatch.backend import Backend
from seesaw_router.dispatch.connections import Sending, error_text, sending
from seesaw_router.dispatch.in_flight import Call
from seesaw_router.server.exchange import Exchange, Send
from seesaw_router.server.failures import Failure, WorkerError

_STALE_WITHIN_S = 1.0
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_UNREACHED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class WorkerCall(Call):
    """One request to one worker. Inside this context, the head of its answer has arrived.

    Call order: inside, :meth:`whole` once, or :meth:`part` and :meth:`pass_on`. These methods and
    the context raise WorkerError for anything that is wrong with the worker or its answer.
    """

    def __init__(self, exchange: Exchange, backend: Backend, silence_s: float) -> None:
        super().__init__(backend.calls)
        self._backend = backend
        self._exchange = exchange
        self._silence_s = silence_s
        self._loop = asyncio.get_running_loop()
        self._waits_since_s: float | None = None  # for a head, or for more of a body
        self._response: aiohttp.ClientResponse | None = None
        self._is_silent = False

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            self._response = response = await self._send()
            self._waits_since_s = None
            self._check_head(response)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._response is not None:
            self._response.close()  # returns the connection to the pool if all has been read
        try:
            await super().__aexit__(kind, error, trace)
        except ConnectionResetError as ended:
            if self._is_silent:
                raise self._worker_error(TimeoutError()) from ended
            raise WorkerError(self._backend, Failure.LOST, f"was lost: {ended}") from ended

    @property
    def response(self) -> aiohttp.ClientResponse:
        """The worker's answer."""
        assert self._response is not None, "the context has been entered"
        return self._response

    async def whole(self) -> bytes:
        """Returns the whole body, which must be short."""
        self._waits_since_s = self._loop.time()
        try:
            return await self.response.read()
        except Exception as error:
            raise self._worker_error(error) from error

    async def part(self) -> bytes:
        """Returns the first part of the body; empty if the body is."""
        self._waits_since_s = self._loop.time()
        try:
            part = await self.response.content.readany()
        except Exception as error:
            raise self._worker_error(error) from error
        self._waits_since_s = None  # the worker is not blamed for a slow client
        return part

    async def pass_on(self, part: bytes, send: Send) -> None:
        """Pass on this part of the body and the rest, each part once the client took the last."""
        read, now = self.response.content.readany, self._loop.time
        while part:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            self._waits_since_s = now()
            try:
                part = await read()
            except Exception as error:
                raise self._worker_error(error) from error
            self._waits_since_s = None
        await send({"type": "http.response.body", "body": b""})

    async def _send(self) -> aiohttp.ClientResponse:
        """Send the request.

        If a reused connection closes at once, it has carried nothing: the request is sent once
        more, to the same worker. A worker that cannot be reached by then was lost.
        """
        connections, used = self._backend.connections, Sending()
        began_s = self._waits_since_s = self._loop.time()
        sending.set(used)
        try:
            return await self._request(connections.requests)
        except WorkerError as error:
            is_at_once = used.is_reused and self._loop.time() - began_s < _STALE_WITHIN_S
            if error.failure is not Failure.LOST or not is_at_once or _has_begun_answer(error):
                raise
        try:
            return await self._request(connections.fresh)
        except WorkerError as gone:
            if gone.failure is not Failure.UNREACHED:
                raise
            raise WorkerError(self._backend, Failure.LOST, "was lost") from gone

    async def _request(self, http: aiohttp.ClientSession) -> aiohttp.ClientResponse:
        exchange = self._exchange
        try:
            return await http.request(
                exchange.method,
                URL(self._backend.target.url + exchange.target, encoded=True),
                data=exchange.body or None,
                headers=exchange.headers,
                allow_redirects=False,
            )
        except Exception as error:
            raise self._worker_error(error) from error

    def _worker_error(self, error: Exception) -> WorkerError:
        """Returns the WorkerError for any exception during a call."""
        if isinstance(error, _UNREACHED):
            return self._error(Failure.UNREACHED, "cannot be reached", error)
        if isinstance(error, TimeoutError):
            problem = f"sent nothing for too long: --max-answer-silence-s={self._silence_s:g}"
            return WorkerError(self._backend, Failure.SILENT, problem)
        if isinstance(error, aiohttp.ClientConnectionError | ConnectionError):
            return self._error(Failure.LOST, "was lost", error)
        if isinstance(error, aiohttp.ClientPayloadError):
            if isinstance(error.__cause__, TransferEncodingError):
                return self._error(Failure.MALFORMED, "sent a malformed body", error)
            return self._error(Failure.LOST, "was lost within its answer", error)
        # A worker can make aiohttp raise in ways that nobody foresaw.
        return self._error(Failure.MALFORMED, "sent a malformed answer", error)

    def _error(self, failure: Failure, what: str, error: Exception) -> WorkerError:
        return WorkerError(self._backend, failure, f"{what}: {error_text(error)}")

    def check(self) -> None:
        """End the call if it has waited too long, or if the connection of its body is gone.

        aiohttp closes the connection at an invalid chunk without telling the body's reader.
        """
        response, since_s = self._response, self._waits_since_s
        is_late = since_s is not None and self._loop.time() - since_s >= self._silence_s
        if response is None:
            if is_late:
                self._is_silent = True
                self.cancel()
            return
        body, connection = response.content, response.connection
        if body.is_eof() or body.exception() is not None:
            return
        if connection is None or connection.transport is None:
            body.set_exception(aiohttp.ClientPayloadError("it ended within its body"))
        elif is_late:
            body.set_exception(aiohttp.SocketTimeoutError("its body stalls"))

    def _check_head(self, response: aiohttp.ClientResponse) -> None:
        if not 200 <= response.status < 600:
            problem = f"sent a malformed answer: its status is {response.status}"
            raise WorkerError(self._backend, Failure.MALFORMED, problem)
        if _CONTROL.search(b"".join(value for _, value in response.raw_headers)):
            name = next(n for n, value in response.raw_headers if _CONTROL.search(value))
            problem = f"sent a malformed answer: its header {name!r} has a control character"
            raise WorkerError(self._backend, Failure.MALFORMED, problem)


def _has_begun_answer(error: WorkerError) -> bool:
    """Returns whether part of an answer's head had arrived."""
    cause = error.__cause__
    return isinstance(cause, aiohttp.ServerDisconnectedError) and not isinstance(cause.message, str)
