"""Limits on the bytes, sockets and time that clients may take, one by one and together."""

import resource
from dataclasses import dataclass, fields

from seesaw_core.errors import InputError
from seesaw_flags.listening import raised_open_files

_RESERVED_FILES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits on what clients send, and on how long they take. Units are in the names.

    header_bytes: the request line and headers of a request, and likewise its trailers.
    headers: the number of headers.
    connections: the number of open connections; beyond it, the one idle for longest is closed.
    held_bytes: bodies of all requests together; more are refused with 503. As many bytes may wait
        for clients to read their answers; beyond it, the client that has read nothing for longest
        is closed.
    header_s: from the start of a connection, or a request's first byte, to the end of its headers.
    body_s: the time over which a body must average 1 KiB a second.
    idle_s: the time that a kept-alive connection may be idle between requests.
    reader_s: the time for which a client may read nothing of an answer that waits for it.

    Raises: InputError if one is not above 0.
    """

    header_bytes: int = 64 << 10
    headers: int = 256
    connections: int = 8192
    held_bytes: int = 256 << 20
    header_s: float = 30.0
    body_s: float = 30.0
    idle_s: float = 75.0
    reader_s: float = 60.0

    def __post_init__(self) -> None:
        for each in fields(self):
            if not 0 < getattr(self, each.name) < float("inf"):
                name = "--max-client-" + each.name.replace("_", "-")
                raise InputError(f"{name} must be above 0, got {getattr(self, each.name)}")

    @property
    def shortest_s(self) -> float:
        return min(self.header_s, self.body_s, self.idle_s, self.reader_s)


class BodyBudget:
    """The bytes of bodies that all requests hold together.

    Small bodies always fit: the number of connections bounds them.
    """

    SMALL_BYTES = 16 << 10

    def __init__(self, held_bytes: int) -> None:
        self._most = held_bytes
        self.held = 0

    def acquire(self, num_bytes: int, of_bytes: int) -> bool:
        """Hold more bytes of a body that has ``of_bytes`` with them. Returns whether they fit."""
        if of_bytes > self.SMALL_BYTES and self.held + num_bytes > self._most:
            return False
        self.held += num_bytes
        return True

    def release(self, num_bytes: int) -> None:
        self.held -= num_bytes


def raise_open_files(wanted_connections: int) -> int:
    """Raise this process's limit of open files. Returns the connections of clients it allows.

    A request takes two sockets: the client's and the worker's.
    """
    hard = raised_open_files()
    if hard == resource.RLIM_INFINITY:
        return wanted_connections
    return max(1, min(wanted_connections, (hard - _RESERVED_FILES) // 2))
