"""Where a command listens: bound at once, so that what cannot be is refused before all else."""

import errno
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from seesaw_core.errors import InputError
from seesaw_flags.values import shown

_LACKS_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def raised_open_files() -> int:
    """Let this process open as many files as it may. Returns how many those are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def bind(port: int, host: str | None = None) -> list[socket.socket]:
    """Sockets to listen on at every address of a host; of all interfaces without one.

    They are bound and do not listen yet; the caller closes them, and begins to listen inside
    :func:`listening`. Raises: InputError naming the flags ``--host`` and ``--port``.
    """
    place = _place(port, host)
    if host is not None and not host.strip():
        raise InputError(f"cannot listen on {place}: give a name or an address, such as 0.0.0.0")
    found: list[socket.socket] = []
    lacking: OSError | None = None
    try:
        for family, address in _places(port, host):
            try:
                found.append(_bound(family, address))
            except OSError as error:
                if error.errno not in _LACKS_FAMILY:
                    raise
                lacking = error  # one of a machine's names may be of a family that it lacks
        if lacking is not None and not found:
            raise lacking
    except (OSError, UnicodeError) as error:
        for each in found:
            each.close()
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot listen on {place}: {reason}; choose another") from error
    return found


@contextmanager
def listening(port: int, host: str | None = None) -> Iterator[None]:
    """Inside, listening begins. Raises: InputError if another has begun since :func:`bind`."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        reason = "another process has taken it since"
        raise InputError(f"cannot listen on {_place(port, host)}: {reason}") from error


def _place(port: int, host: str | None) -> str:
    return f"--port={port}" if host is None else f"--host={shown(host)} --port={port}"


def _bound(family: socket.AddressFamily, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def _places(port: int, host: str | None) -> dict[tuple[socket.AddressFamily, Any], None]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return dict.fromkeys((family, address) for family, _, _, _, address in found)
