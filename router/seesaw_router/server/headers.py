"""Headers between clients and workers: they are passed on as they were sent.

Headers of one connection are dropped on both sides (RFC 9110, section 7.6.1), and the router adds
the client's address. It does not trust what a client says of its origin: the last entry of
``X-Forwarded-For`` is the router's own, and those before it are the client's claims.
"""

from collections.abc import Iterable

from multidict import CIMultiDict

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer "
    b"transfer-encoding upgrade http2-settings".split()
)
_NOT_TO_CLIENTS = _HOP_BY_HOP | {b"content-length"}
_FORWARDED = frozenset(
    {b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"forwarded"}
)
_NOT_TO_WORKERS = _HOP_BY_HOP | _FORWARDED | {b"host", b"content-length", b"expect"}


class HeaderError(Exception):
    """Headers that cannot be passed on."""


def to_worker(
    headers: Headers, http_version: str, client: tuple[str, int] | None, scheme: str
) -> CIMultiDict[str]:
    """Returns a client's headers as its worker gets them.

    headers: as they were received, with names in lower case. Raises: HeaderError, also if the
    headers are ambiguous.
    """
    kept: Headers = []
    aside: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _NOT_TO_WORKERS:
            aside.setdefault(name, []).append(value)
        else:
            kept.append((name, value))
    num_hosts = len(aside.get(b"host", ()))
    if http_version == "1.1" and num_hosts != 1:
        raise HeaderError(f"HTTP/1.1 requires one Host header, got {num_hosts}")
    if b"upgrade" in aside and (
        b"transfer-encoding" in aside
        or any(length.strip() != b"0" for length in aside.get(b"content-length", ()))
    ):  # the body would belong to another protocol
        raise HeaderError("a request with a body cannot ask for an Upgrade; send it without one")
    named = _named(aside.get(b"connection", ()))
    try:
        decoded = [(n.decode(), v.decode()) for n, v in kept if n not in named]
        decoded += _forwarded(aside, client, scheme)
    except UnicodeDecodeError as error:
        name = next((n for n, v in headers if v == error.object), b"")
        raise HeaderError(f"the header {name.decode()!r} must be UTF-8") from None
    return CIMultiDict(decoded)


def to_client(headers: Iterable[tuple[bytes, bytes]], length: int | None) -> Headers:
    """Returns a worker's headers as the client gets them. ``length``: of the body, if known."""
    kept: Headers = []
    connection: list[bytes] = []
    for as_sent, value in headers:
        name = as_sent.lower()
        if name not in _NOT_TO_CLIENTS:
            kept.append((name, value))
        elif name == b"connection":
            connection.append(value)
    if connection:
        named = _named(connection)
        kept = [(name, value) for name, value in kept if name not in named]
    if length is not None:
        kept.append((b"content-length", b"%d" % length))
    return kept


def _named(connection: Iterable[bytes]) -> frozenset[bytes]:
    """Returns the names of headers that ``Connection`` declares to be hop-by-hop."""
    return frozenset(token.strip().lower() for value in connection for token in value.split(b","))


def _forwarded(
    aside: dict[bytes, list[bytes]], client: tuple[str, int] | None, scheme: str
) -> list[tuple[str, str]]:
    """Returns the forwarding headers: the client's own claims, then the router's entry."""

    def given(name: bytes) -> list[str]:
        return [value.decode() for value in aside.get(name, ())]

    address = client[0] if client else "unknown"
    forwarded = [
        ("x-forwarded-for", ", ".join([*given(b"x-forwarded-for"), address])),
        ("x-forwarded-proto", ", ".join(given(b"x-forwarded-proto")) or scheme),
    ]
    hosts = ", ".join(given(b"x-forwarded-host") or given(b"host"))
    if hosts:
        forwarded.append(("x-forwarded-host", hosts))
    if b"forwarded" in aside:
        node = f'"[{address}]"' if ":" in address else address
        nodes = [*given(b"forwarded"), f"for={node};proto={scheme}"]
        forwarded.append(("forwarded", ", ".join(nodes)))
    return forwarded
