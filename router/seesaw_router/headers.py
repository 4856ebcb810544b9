"""Headers between clients and workers: all of what was sent, and nothing that was not.

What belongs to one connection is dropped on both sides (RFC 9110, section 7.6.1), and the
router adds who asked. Nothing that a client says of where it comes from is believed: the last
entry of ``X-Forwarded-For`` is the router's own, those before it are what the client claims.
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
_NONE: frozenset[bytes] = frozenset()
_TOLD = _FORWARDED | {b"host"}


class HeaderError(Exception):
    """A header that cannot be passed on as it is."""


def check_head(headers: Headers, http_version: str) -> None:
    """Refuse a request of which it is not clear what it says.

    headers: as they came, with names in lower case. Raises: HeaderError.
    """
    names = [name for name, _ in headers]
    if http_version == "1.1" and names.count(b"host") != 1:
        raise HeaderError(f"HTTP/1.1 wants one Host header, got {names.count(b'host')}")
    if b"upgrade" in names and any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")
        for name, value in headers
    ):  # the body would be another protocol's
        raise HeaderError("a request with a body cannot ask for an Upgrade; send it without")


def to_worker(headers: Headers, client: tuple[str, int] | None, scheme: str) -> CIMultiDict[str]:
    """A client's headers as its worker gets them. Raises: HeaderError.

    headers: as they came, with names in lower case.
    """
    named = _named(headers)
    dropped = _NOT_TO_WORKERS | named if named else _NOT_TO_WORKERS
    try:
        kept = [(n.decode(), v.decode()) for n, v in headers if n not in dropped]
        kept += _forwarded(headers, client, scheme)
    except UnicodeDecodeError as error:
        name = next((n for n, v in headers if v == error.object), b"")
        raise HeaderError(f"the header {name.decode()!r} must be UTF-8") from None
    return CIMultiDict(kept)


def to_client(headers: Iterable[tuple[bytes, bytes]], length: int | None) -> Headers:
    """A worker's headers as the client gets them. ``length``: of the body, where it has one."""
    all_headers = [(name.lower(), value) for name, value in headers]
    dropped = _NOT_TO_CLIENTS | _named(all_headers)
    kept = [(name, value) for name, value in all_headers if name not in dropped]
    if length is not None:
        kept.append((b"content-length", b"%d" % length))
    return kept


def _named(headers: Headers) -> frozenset[bytes]:
    """Headers that ``Connection`` declares to be of this connection alone."""
    values = [value for name, value in headers if name == b"connection"]
    if not values:
        return _NONE
    return frozenset(token.strip().lower() for token in b",".join(values).split(b","))


def _forwarded(
    headers: Headers, client: tuple[str, int] | None, scheme: str
) -> list[tuple[str, str]]:
    """Who asks, and what the client says of it."""
    told: dict[bytes, list[str]] = {}
    for name, value in headers:
        if name in _TOLD:
            told.setdefault(name, []).append(value.decode())
    address = client[0] if client else "unknown"
    forwarded = [
        ("x-forwarded-for", ", ".join([*told.get(b"x-forwarded-for", ()), address])),
        ("x-forwarded-proto", ", ".join(told.get(b"x-forwarded-proto", (scheme,)))),
    ]
    hosts = ", ".join(told.get(b"x-forwarded-host", told.get(b"host", [])))
    if hosts:
        forwarded.append(("x-forwarded-host", hosts))
    if b"forwarded" in told:
        node = f'"[{address}]"' if ":" in address else address
        nodes = [*told[b"forwarded"], f"for={node};proto={scheme}"]
        forwarded.append(("forwarded", ", ".join(nodes)))
    return forwarded
