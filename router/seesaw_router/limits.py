"""What one client, and all clients together, may take of the router: bytes, sockets and time."""

import resource
from dataclasses import dataclass, fields

from seesaw_core.errors import InputError
from seesaw_flags.listening import raised_open_files

_RESERVED_FILES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what clients send and on how long they take. Units in the names.

    header_bytes: request line and headers of a request, and its trailers.
    headers: how many of them.
    connections: how many are open; beyond it the longest idle one makes room.
    held_bytes: bodies of all requests together; more are refused with 503. Also what waits for
        clients to take their answers; beyond it, whoever has taken nothing for longest is given up.
    header_s: from a connection, or a request's first byte, to the end of its headers.
    body_s: without 1 KiB a second of a body, on average.
    idle_s: a kept connection between requests.
    reader_s: in which a client takes nothing of an answer that waits for it.

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
    """Bytes of bodies that all requests hold together.

    Small bodies always fit: connections are bounded, so that these are too.
    """

    SMALL_BYTES = 16 << 10

    def __init__(self, held_bytes: int) -> None:
        self._most = held_bytes
        self.held = 0

    def take(self, num_bytes: int, of_bytes: int) -> bool:
        """Hold more of a body that is ``of_bytes`` long by now, if it fits."""
        if of_bytes > self.SMALL_BYTES and self.held + num_bytes > self._most:
            return False
        self.held += num_bytes
        return True

    def give(self, num_bytes: int) -> None:
        self.held -= num_bytes


def raise_open_files(wanted_connections: int) -> int:
    """Let this process open as many files as it may. Returns how many clients that leaves.

    A request takes two sockets: the client's and the worker's.
    """
    hard = raised_open_files()
    if hard == resource.RLIM_INFINITY:
        return wanted_connections
    return max(1, min(wanted_connections, (hard - _RESERVED_FILES) // 2))
