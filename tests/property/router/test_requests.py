"""Reading a request never fails, finds what its JSON says, and changes nothing of what is sent."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from seesaw_router.server.exchange import Exchange, Message
from seesaw_router.server.requests import MAX_READ_BYTES, parse
from seesaw_router.server.routes import ROUTES, match

ROUTED = st.sampled_from([(r.method, r.template.replace("{}", "resp_1")) for r in ROUTES])
TEXT = st.text(st.characters(codec="utf-8"))
NUMBERS = st.integers() | st.integers(10**17, 10**400) | st.floats()
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
NAMES = st.sampled_from(["model", "priority", "stream", "previous_response_id", "prompt"])
OBJECTS = st.dictionaries(NAMES | TEXT, VALUES)
JSON = st.builds(
    lambda value, ascii_only, indent: json.dumps(value, ensure_ascii=ascii_only, indent=indent),
    OBJECTS | VALUES,
    st.booleans(),
    st.sampled_from([None, 2]),
)
ENCODINGS = st.sampled_from(["utf-8", "utf-16", "utf-32-be"])


def encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "surrogatepass")


ENCODED: st.SearchStrategy[bytes] = st.builds(encoded, JSON, ENCODINGS)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """JSON of which a part is missing, or is something else."""
    whole = draw(ENCODED)
    start = draw(st.integers(0, len(whole)))
    stop = draw(st.integers(start, len(whole)))
    return whole[:start] + draw(st.binary(max_size=8)) + whole[stop:]


BODIES = st.binary() | ENCODED | damaged()


@given(routed=ROUTED, body=BODIES)
@example(routed=("POST", "/v1/completions"), body=b"[" * 100_000)
@example(routed=("POST", "/v1/completions"), body=b'{"a":' * 100_000)
@example(routed=("POST", "/v1/completions"), body=b'{"priority":' + b"9" * 5000 + b"}")
@example(routed=("POST", "/v1/completions"), body=b'{"model":"\\ud800"}')
@example(routed=("POST", "/v1/responses"), body=b'{"previous_response_id":"' + b"x" * 300 + b'"}')
@example(routed=("POST", "/v1/completions"), body=b'{"model":"m"}' + b" " * MAX_READ_BYTES)
def test_reading_never_fails_and_leaves_what_is_passed_on_as_it_came(
    routed: tuple[str, str], body: bytes
) -> None:
    async def send(_: Message) -> None:
        pass

    method, path = routed
    scope = {"method": method, "raw_path": path.encode(), "query_string": b"a=%7B"}
    headers = CIMultiDict({"content-type": "application/json"})
    copy, sent = headers.copy(), bytes(bytearray(body))
    exchange = Exchange(scope, match(method, path), headers, body, send)
    assert (exchange.body, exchange.headers) == (sent, copy)
    assert (exchange.method, exchange.target) == (method, f"{path}?a=%7B")
    assert exchange.request.tokens == max(1, len(body) // 4)
    assert exchange.request == parse(match(method, path), body)


@given(
    priority=st.none() | st.integers(),
    stream=st.none() | st.booleans(),
    others=st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT),
)
def test_what_is_read_is_what_the_client_wrote(
    priority: int | None, stream: bool | None, others: dict[str, Any]
) -> None:
    fields = others | {"priority": priority, "stream": stream}
    request = parse(match("POST", "/v1/completions"), json.dumps(fields).encode())
    assert request.stream is (stream is True)
    assert request.priority == (priority if -(2**63) <= (priority or 0) < 2**63 and priority else 0)
    if request.model is not None:
        assert request.model == fields["model"]
