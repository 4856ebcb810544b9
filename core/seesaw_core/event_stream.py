"""Parses server-sent events from bytes as they arrive, within bounds on what a peer may send.

The parser holds at most one event, whatever the peer does. An event without an end, or more events
than any worker sends, is an error, so that memory does not grow.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from seesaw_core.errors import MessageError

_FIELD_BYTES = 64  # of an event's kind; ours have at most ten


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """The most that a stream of events may carry: an event's bytes, and rates in any one second.

    The limits are some ten times what a worker sends, whose state has a few kilobytes. Reading an
    event holds up all other workers: a stream at its limits takes up to 0.1 s of each second.
    """

    event_bytes: int = 64 << 10
    events_per_s: int = 1000
    lines_per_s: int = 10_000
    bytes_per_s: int = 512 << 10


class EventParser:
    """Splits a stream into events.

    Call order: :meth:`feed` with each chunk that arrives, and its time.
    """

    def __init__(self, limits: StreamLimits | None = None) -> None:
        self._limits = limits or StreamLimits()
        self._line = bytearray()
        self._kind = ""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._second = 0
        self._events = 0
        self._lines = 0
        self._bytes = 0

    def feed(self, chunk: bytes, now_s: float) -> Iterator[tuple[str, bytes]]:
        """Yield the events that are complete now: kind and data. Raises: MessageError."""
        if int(now_s) != self._second:
            self._second = int(now_s)
            self._events = self._lines = self._bytes = 0
        self._bytes += len(chunk)
        self._lines += chunk.count(b"\n")
        if self._bytes > self._limits.bytes_per_s:
            raise MessageError("", f"has more than {self._limits.bytes_per_s} bytes a second")
        if self._lines > self._limits.lines_per_s:
            raise MessageError("", f"has more than {self._limits.lines_per_s} lines a second")
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            self._line += chunk[begin:end]
            begin = end + 1
            line = bytes(self._line)
            self._line.clear()
            if (event := self._take(line.removesuffix(b"\r"))) is not None:
                yield event
        self._line += chunk[begin:]
        self._check_size(len(self._line))

    def _take(self, line: bytes) -> tuple[str, bytes] | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._kind = value[:_FIELD_BYTES].decode(errors="replace").strip()
        elif name == b"data":
            self._check_size(len(value))
            self._data.append(value)
            self._data_bytes += len(value) + 1
        return None

    def _dispatch(self) -> tuple[str, bytes] | None:
        kind, data = self._kind, b"\n".join(self._data)
        is_empty = not self._data
        self._kind, self._data, self._data_bytes = "", [], 0
        if is_empty:
            return None
        self._events += 1
        if self._events > self._limits.events_per_s:
            raise MessageError("", f"is one of over {self._limits.events_per_s} events a second")
        return kind, data

    def _check_size(self, more: int) -> None:
        if self._data_bytes + more > self._limits.event_bytes:
            raise MessageError("", f"is longer than {self._limits.event_bytes} bytes")
