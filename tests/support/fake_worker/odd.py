"""Peers that misbehave on purpose, on plain sockets, since an HTTP library would prevent it."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from support.fake_worker.engine import Engine

Act = Callable[["Asked"], Awaitable[None]]

STATE = Engine("stand-in", 0.0).state()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One complete request, and the connection for its answer."""

    path: str
    head: bytes
    body: bytes
    is_first: bool
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def cut(self) -> None:
        """Reset the connection at once."""
        self.writer.transport.abort()


def answer(body: bytes = b'{"ok": true}', status: str = "200 OK", headers: str = "") -> Act:
    """Send a valid answer."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}"
    return raw(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def raw(data: bytes, then: Act | None = None) -> Act:
    """Send these bytes, then do ``then``."""

    async def act(asked: Asked) -> None:
        await asked.say(data)
        if then is not None:
            await then(asked)

    return act


async def hang(_: Asked) -> None:
    """Keep the connection without sending more."""
    await asyncio.sleep(3600)


async def gush(asked: Asked) -> None:
    """Send an endless answer, as fast as it is read."""
    await asked.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await asked.say(b"10000\r\n" + b"a" * 65536 + b"\r\n")


def by_prompt(acts: Mapping[str, Act]) -> Act:
    """Do what the prompt names, and answer other prompts properly."""

    async def act(asked: Asked) -> None:
        prompt = json.loads(asked.body).get("prompt") if asked.body else None
        await acts.get(str(prompt), answer())(asked)

    return act


def slow(seconds: float, act: Act | None = None) -> Act:
    async def act_later(asked: Asked) -> None:
        await asyncio.sleep(seconds)
        await (act or answer())(asked)

    return act_later


async def cut(asked: Asked) -> None:
    asked.cut()


async def close(asked: Asked) -> None:
    asked.writer.close()


EVENTS_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def event(kind: str = "state", **changes: object) -> bytes:
    """Return an event with the state of a serving worker and changes; ``...`` removes a field.

    A field of the mode's part is changed in both places where readers look for it.
    """
    part = STATE["resharding"]
    own = part | {k: v for k, v in changes.items() if k in part}
    data = STATE | changes | {"resharding": {k: v for k, v in own.items() if v is not ...}}
    data = {k: v for k, v in data.items() if v is not ...}
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def events(*said: bytes, every_s: float = 0.2) -> Act:
    """Send an event stream: each item in turn, then the last one for ever."""

    async def act(asked: Asked) -> None:
        await asked.say(EVENTS_HEAD)
        for each in said[:-1]:
            await asked.say(each)
        while True:
            await asked.say(said[-1])
            await asyncio.sleep(every_s)

    return act


@dataclasses.dataclass(slots=True, kw_only=True)
class OddWorker:
    """A worker with three answers. ``asked`` counts requests other than the router's own two."""

    events: Act = dataclasses.field(default_factory=lambda: events(event()))
    health: Act = dataclasses.field(default_factory=answer)
    answer: Act = dataclasses.field(default_factory=answer)
    asked: int = 0
    url: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["OddWorker"]:
        tasks: set[asyncio.Task[None]] = set()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(begin, "127.0.0.1", 0, limit=1 << 26)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_first = True
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                path = head.split(b" ", 2)[1].decode()
                act = {"/seesaw/events": self.events, "/health": self.health}.get(path, self.answer)
                self.asked += act is self.answer
                await act(Asked(path=path, head=head, body=body, is_first=is_first, writer=writer))
                is_first = False
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return 0
