"""Differences from plain vLLM that are meant, each with its reason.

One that explains nothing any more fails the run, so that the list only ever says what is so.
"""

from collections.abc import Iterator
from typing import Final

from conformance.differences import Explained
from conformance.tables.routes import METHODS, OTHERS, ROUTES

READ: Final = frozenset({"GET", "HEAD", "OPTIONS"})
ASKED: Final = frozenset({"POST", "OPTIONS"})
PASSED: Final[dict[str, frozenset[str]]] = {
    "/version": READ,
    "/v1/models": READ,
    "/v1/models?a=b&c=%20": READ,
    "/v1/responses/{response_id}": READ,
    "/ping": READ | ASKED,
    **dict.fromkeys(
        (
            "/tokenize",
            "/detokenize",
            "/v1/systemone",
            "/invocations",
            "/v1/chat/completions",
            "/v1/chat/completions/batch",
            "/v1/responses",
            "/v1/responses/{response_id}/cancel",
            "/v1/completions",
            "/v1/messages",
            "/v1/messages/count_tokens",
            "/generative_scoring",
            "/v1/embeddings",
            "/v1/rerank",
            "/v1/score",
            "/v1/audio/transcriptions",
            "/v1/audio/translations",
            "/v1/completions/render",
            "/v1/chat/completions/render",
            "/inference/v1/generate",
            "/pooling",
            "/classify",
            "/score",
            "/rerank",
            "/v2/rerank",
            "/v2/embed",
        ),
        ASKED,
    ),
}
"""What a router passes on: to these it must add nothing. All else it answers itself."""

ROUTERS: Final = ("router", "static")
_FINGERPRINT: Final = (
    "vLLM makes the fingerprint of the layout and of the engine's configuration, and the worker's "
    "decode engine has another layout"
)
_OWN: Final = "the router passes exact routes and methods only, and answers all others itself"
_HEALTH: Final = "the router's health is its own, without vLLM's CORS headers"
_HALF_CLOSED: Final = "plain vLLM drops a client that has shut its sending side; the router answers"
_NO_HOST: Final = "HTTP/1.1 requires one Host header, and the router enforces it"
_NO_HTTP: Final = "what is no HTTP/1.1 is refused by the router, in the form of OpenAI's errors"
_CUT_SHORT: Final = (
    "vLLM breaks off the stream of a response that was not streamed when it was made; the router, "
    "to which nothing has come yet, can still say so with a 502"
)


def _of_routers() -> Iterator[Explained]:
    rows = {
        f"route/{m} {p}": _OWN for p in (*ROUTES, *OTHERS) for m in METHODS if not _passes(m, p)
    }
    rows |= {
        "preflight//health": _HEALTH,
        "framing/half-closed": _HALF_CLOSED,
        "framing/two-lengths": _NO_HTTP,
        "framing/no-http": _NO_HTTP,
        "framing/no-host": _NO_HOST,
        "stored/read-stream": _CUT_SHORT,
    }
    for subject in ROUTERS:
        for row, reason in rows.items():
            yield Explained(subject=subject, row=row, where="*", reason=reason)


def _passes(method: str, path: str) -> bool:
    return method in PASSED.get(path, frozenset())


EXPLAINED: Final[tuple[Explained, ...]] = (
    *(
        Explained(subject=subject, row="*", where="*system_fingerprint", reason=_FINGERPRINT)
        for subject in ("worker", "router")
    ),
    *_of_routers(),
)
