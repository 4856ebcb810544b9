"""A client on plain sockets, which sends exactly the bytes that it is given."""

import asyncio
import fcntl
import struct
import termios
from dataclasses import dataclass
from urllib.parse import urlsplit

BODY = b'{"model": "stand-in", "prompt": "x", "max_tokens": 4}'


@dataclass(frozen=True, slots=True, kw_only=True)
class RawClient:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def to(cls, url: str) -> "RawClient":
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        return cls(reader=reader, writer=writer)

    async def send(self, data: bytes, *, is_last: bool = False) -> None:
        self.writer.write(data)
        await self.writer.drain()
        if is_last:
            self.writer.write_eof()

    @property
    def num_unsent(self) -> int:
        """The bytes that the other side's kernel has not acknowledged yet."""
        sock = self.writer.get_extra_info("socket")
        (queued,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)))
        return int(queued) + self.writer.transport.get_write_buffer_size()

    async def until_closed(self, at_most_s: float = 10.0) -> bytes:
        """Return all bytes until the other side closes. Raises: TimeoutError."""
        got = bytearray()
        async with asyncio.timeout(at_most_s):
            try:
                while part := await self.reader.read(1 << 16):
                    got += part
            except ConnectionError:
                pass
        self.close()
        return bytes(got)

    def close(self) -> None:
        self.writer.close()


def request(
    target: str = "/v1/completions",
    body: bytes = BODY,
    headers: bytes = b"",
    method: str = "POST",
) -> bytes:
    """Return a complete request with ``Connection: close``."""
    line = f"{method} {target} HTTP/1.1\r\nHost: router\r\nConnection: close\r\n"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return line.encode() + headers + length.encode() + b"\r\n" + body


async def ask(url: str, data: bytes, at_most_s: float = 10.0) -> bytes:
    """Send bytes on a new connection. Returns the whole answer."""
    client = await RawClient.to(url)
    await client.send(data)
    return await client.until_closed(at_most_s)


def status_of(answer: bytes) -> int:
    """Return the first status of an answer; 0 if there is none."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0
