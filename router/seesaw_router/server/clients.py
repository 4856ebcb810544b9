"""All connections of clients: bounds their number, and closes those that take too long."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from seesaw_router.limits import BodyBudget, Limits

if TYPE_CHECKING:
    from seesaw_router.server.protocol import ClientProtocol

_BODY_BYTES_PER_S = 1024
_PROBE_S = 1.0
_BYTES_BEHIND = 256 << 10  # the most bytes that wait for one client, in both sockets
_FEW_BEHIND = 16
_SEND_BYTES = 128 << 10  # a socket's buffer counts as memory of this process, too
_ESTABLISHED, _CLOSE_WAIT = 1, 8  # of Linux' TCP states
_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 30),
    (socket.TCP_KEEPINTVL, 10),
    (socket.TCP_KEEPCNT, 3),
)


class Stage(StrEnum):
    """What a connection waits for."""

    IDLE = "idle"  # a request
    HEAD = "head"  # the rest of its headers
    BODY = "body"  # the rest of its body
    ANSWER = "answer"  # the application


class Clients:
    """The open connections.

    Call order: :meth:`watch` as a task while the server runs; connections call the rest.
    """

    def __init__(
        self,
        limits: Limits,
        on_refused: Callable[[int], None],
        on_given_up: Callable[[], None],
    ) -> None:
        self.limits = limits
        self.refused = on_refused
        self._given_up = on_given_up
        self.is_ending = False
        self._open: set[ClientProtocol] = set()
        self._behind: dict[ClientProtocol, None] = {}  # by when they last took anything
        self.bodies = BodyBudget(limits.held_bytes)
        self._ending_s: float | None = None

    def admit(self, client: "ClientProtocol") -> bool:
        """Returns whether there is room for a connection.

        To make room, the connection that has been idle longest is closed; if none is idle, the
        one that has been sending the head of its request for longest.
        """
        sock = client.transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        if len(self._open) >= self.limits.connections:
            asking = (c for c in self._open if c.stage in (Stage.IDLE, Stage.HEAD))
            oldest = min(asking, key=lambda c: (c.stage is Stage.HEAD, c.since_s), default=None)
            if oldest is None:
                return False
            self.discard(oldest)
            oldest.abort()
        self._open.add(client)
        return True

    def discard(self, client: "ClientProtocol") -> None:
        self._open.discard(client)
        self.catches_up(client)

    def falls_behind(self, client: "ClientProtocol") -> None:
        """Note that an answer waits for its client.

        If too many wait, the client that has taken nothing for longest is closed.
        """
        self._behind[client] = None
        if len(self._behind) > max(_FEW_BEHIND, self.limits.held_bytes // _BYTES_BEHIND):
            first = next(iter(self._behind))
            self.discard(first)
            first.abort()
            self._given_up()

    def catches_up(self, client: "ClientProtocol") -> None:
        """Note that a client has taken all that waited, or has left."""
        self._behind.pop(client, None)

    async def watch(self) -> None:
        """Close connections that take too long, for ever."""
        pause_s = min(1.0, self.limits.shortest_s / 4)
        while True:
            await asyncio.sleep(pause_s)
            now = asyncio.get_running_loop().time()
            if self.is_ending and self._ending_s is None:
                self._ending_s = now
            for client in list(self._open):
                self._check(client, now)

    @staticmethod
    def is_reset(transport: asyncio.Transport) -> bool:
        """Returns whether a client that had finished sending has left since then."""
        try:
            info = transport.get_extra_info("socket").getsockopt(
                socket.IPPROTO_TCP, socket.TCP_INFO, 1
            )
        except OSError:
            return True
        return info[0] not in (_ESTABLISHED, _CLOSE_WAIT)

    def _check(self, client: "ClientProtocol", now: float) -> None:
        limits, waited_s = self.limits, now - client.since_s
        if client.may_be_gone and now - client.probed_s >= _PROBE_S:
            client.probe()
        if self._reads_nothing(client, now):
            client.abort()
        elif client.stage is Stage.IDLE:
            if waited_s > (limits.idle_s if client.num_requests else limits.header_s):
                client.transport.close()
        elif client.stage is Stage.HEAD:
            if waited_s > limits.header_s:
                client.refuse(408, f"the headers took longer than {limits.header_s:g} s")
        elif client.stage is Stage.BODY:
            self._check_body(client, now)

    def _check_body(self, client: "ClientProtocol", now: float) -> None:
        limits = self.limits
        if self._ending_s is not None and now - self._ending_s > limits.body_s:
            client.refuse(503, "the router is shutting down, and the body was not sent in time")
            return
        if now - client.since_s <= limits.body_s:
            return
        num_new = client.body_bytes - client.body_bytes_checked
        if num_new < _BODY_BYTES_PER_S * limits.body_s and not client.flow.read_paused:
            client.refuse(
                408,
                f"less than {_BODY_BYTES_PER_S} bytes a second of the body arrived for "
                f"{limits.body_s:g} s",
            )
        client.body_bytes_checked = client.body_bytes
        client.since_s = now

    def _reads_nothing(self, client: "ClientProtocol", now: float) -> bool:
        unsent = client.transport.get_write_buffer_size()
        if unsent == 0 and client.unsent_bytes == 0:
            return False
        if unsent == 0 or unsent < client.unsent_bytes or client.unsent_bytes == 0:
            client.unsent_since_s = now
            if client in self._behind:
                del self._behind[client]
                self._behind[client] = None
        client.unsent_bytes = unsent
        return unsent > 0 and now - client.unsent_since_s > self.limits.reader_s
