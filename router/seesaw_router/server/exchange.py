"""One request of a client and its answer, as HTTP, and errors in the form of OpenAI's API."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from typing import Any

from multidict import CIMultiDict

from seesaw_router.dispatch.parsed_request import ParsedRequest
from seesaw_router.server.requests import parse
from seesaw_router.server.routes import Kind, Match

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Leaving:
    """Whether a connection's client has left. An ASGI scope holds it as an extension."""

    EXTENSION = "seesaw.leaving"

    def __init__(self) -> None:
        self.has_left = False
        self._callback: Callable[[], object] | None = None

    def set_callback(self, callback: Callable[[], object] | None) -> None:
        """Set the one callback that is called as soon as the client has left."""
        self._callback = callback
        if callback is not None and self.has_left:
            callback()

    def leave(self) -> None:
        """Note that the client has left, and call the callback."""
        if not self.has_left:
            self.has_left = True
            self.set_callback(self._callback)


class Exchange:
    """One request and its answer.

    headers: as a worker gets them. release: called whenever the body is dropped.
    """

    def __init__(
        self,
        scope: Scope,
        route: Match,
        headers: CIMultiDict[str],
        body: bytes,
        send: Send,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        self.method: str = scope["method"]
        query = scope["query_string"].decode("ascii")
        path = scope["raw_path"].decode("ascii")  # the path that was matched is sent as it is
        self.target = f"{path}?{query}" if query else path
        self.route = route
        self.headers = headers
        self.body = body
        self.request: ParsedRequest = parse(route, body)
        self.send = send
        self._release = release
        self.has_begun = False
        self.status = 0

    @property
    def generates(self) -> bool:
        """Whether the request queues as a prompt."""
        return self.route.kind is Kind.PROMPT

    def drop_body(self) -> None:
        """Drop the body: it cannot be sent again."""
        self.body = b""
        self._release()

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun, self.status = True, status
        await self.send({"type": "http.response.start", "status": status, "headers": headers})


async def refuse(
    send: Send, status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Answer with an error in the form of OpenAI's API."""
    body = error_body(status, message)
    start = [
        (b"date", formatdate(usegmt=True).encode()),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})


def error_body(status: int, message: str) -> bytes:
    """Returns the body of an error, as clients of OpenAI's API read it."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind = "rate_limit_error"
    error = {"message": message, "type": kind, "param": None, "code": status}
    return json.dumps({"error": error}).encode()
