"""One request of a client and its answer, as HTTP: what is passed on, and errors as OpenAI's."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from multidict import CIMultiDict

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_UNGENERATED = ("/tokenize", "/detokenize", "/count_tokens", "/render")
HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"host",
    b"content-length",
    b"expect",
}
_BYTES_PER_TOKEN = 4  # of a request's body: text in JSON, or token ids with their commas


class Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, body: bytes, send: Send) -> None:
        self.method: str = scope["method"]
        query = scope["query_string"].decode("latin-1")
        raw = scope.get("raw_path") or scope["path"].encode()
        path = raw.decode("latin-1").partition("?")[0]
        self.target = f"{path}?{query}" if query else path
        self.headers = CIMultiDict(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if name.lower() not in HOP_BY_HOP
        )
        self.body = body
        self.send = send
        self.has_begun = False
        self.status = 0

    @property
    def generates(self) -> bool:
        return self.method == "POST" and not self.target.partition("?")[0].endswith(_UNGENERATED)

    @property
    def tokens(self) -> int:
        """About how many tokens the prompt has. Exactly is for the worker to know."""
        return max(1, len(self.body) // _BYTES_PER_TOKEN)

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun, self.status = True, status
        await self.send({"type": "http.response.start", "status": status, "headers": headers})


async def refuse(
    send: Send, status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """An error in OpenAI's form."""
    kind = {429: "rate_limit_error", 413: "invalid_request_error"}.get(status, "server_error")
    error = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    body = json.dumps(error).encode()
    start = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
