"""Every route of vLLM's server, with every method, and the paths beside them."""

from collections.abc import Iterator
from typing import Any, Final

from conformance.rows import MODEL, Compare, Request, Row, post
from conformance.tables.completions import MESSAGES, TEXT

ROUTES: Final = (
    "/load",
    "/version",
    "/kv_event_sources",
    "/health",
    "/metrics",
    "/tokenize",
    "/detokenize",
    "/v1/models",
    "/v1/systemone",
    "/ping",
    "/invocations",
    "/v1/chat/completions",
    "/v1/chat/completions/batch",
    "/v1/responses",
    "/v1/responses/{response_id}",
    "/v1/responses/{response_id}/cancel",
    "/v1/completions",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/generative_scoring",
    "/scale_elastic_ep",
    "/is_scaling_elastic_ep",
)
"""What plain vLLM lists in /openapi.json. A run fails if that has become another list."""

OTHERS: Final = (
    "/",
    "/docs",
    "/redoc",
    "/openapi.json",
    "/docs/oauth2-redirect",
    "/v1",
    "/v1/",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/score",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/realtime",
    "/v1/models/",
    "/v1/models/" + MODEL,
    "/v1/nothing",
    "/v1/completions/render",
    "/v1/chat/completions/render",
    "/inference/v1/generate",
    "/tokenizer_info",
    "/pooling",
    "/classify",
    "/score",
    "/rerank",
    "/v2/rerank",
    "/v2/embed",
    "/sleep",
    "/wake_up",
    "/is_sleeping",
    "/pause",
    "/resume",
    "/is_paused",
    "/collective_rpc",
    "/reset_prefix_cache",
    "/server_info",
    "/abort_requests",
    "/start_profile",
    "/nothing",
    "//v1/models",
    "/v1//models",
    "/v1/./models",
    "/v1/../version",
    "/v1/%6dodels",
    "/V1/models",
    "/v1/models?a=b&c=%20",
    "/v1/mod%65ls%2f",
    "/v1/models%00",
)
"""Paths that plain vLLM may not have for this model; whether it does is what is compared."""

METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW")
MEASUREMENTS: Final = {"/metrics", "/load", "/openapi.json"}
SHORT: Final = {
    "GET /v1/models",
    "GET /version",
    "GET /health",
    "GET /ping",
    "POST /v1/embeddings",
    "GET /v1/nothing",
    "HEAD /v1/models",
    "DELETE /v1/completions",
}

BODIES: Final[dict[str, tuple[str, Any]]] = {
    "tokenize/text": ("/tokenize", {"prompt": TEXT}),
    "tokenize/strings": ("/tokenize", {"prompt": TEXT, "return_token_strs": True}),
    "tokenize/plain": ("/tokenize", {"prompt": TEXT, "add_special_tokens": False}),
    "tokenize/chat": ("/tokenize", {"messages": MESSAGES}),
    "tokenize/empty": ("/tokenize", {"prompt": ""}),
    "tokenize/surrogate": ("/tokenize", {"prompt": "\ud800"}),
    "tokenize/model": ("/tokenize", {"model": "other", "prompt": TEXT}),
    "tokenize/nothing": ("/tokenize", {}),
    "detokenize/ids": ("/detokenize", {"tokens": [100, 200, 300]}),
    "detokenize/empty": ("/detokenize", {"tokens": []}),
    "detokenize/beyond": ("/detokenize", {"tokens": [1000, 2**40]}),
    "detokenize/negative": ("/detokenize", {"tokens": [-1]}),
    "detokenize/words": ("/detokenize", {"tokens": ["a"]}),
    "batch/two": (
        "/v1/chat/completions/batch",
        {"messages": [MESSAGES, MESSAGES], "max_tokens": 4, "temperature": 0},
    ),
    "batch/empty": ("/v1/chat/completions/batch", {"messages": []}),
    "invocations/completion": (
        "/invocations",
        {"prompt": TEXT, "max_tokens": 4, "temperature": 0},
    ),
    "invocations/chat": (
        "/invocations",
        {"messages": MESSAGES, "max_tokens": 4, "temperature": 0},
    ),
    "invocations/nothing": ("/invocations", {}),
    "systemone/label": (
        "/v1/systemone",
        {"state": "a", "questions": {"q": {"type": "boolean", "instructions": "Is it?"}}},
    ),
    "systemone/nothing": ("/v1/systemone", {}),
    "scoring/labels": (
        "/generative_scoring",
        {"query": TEXT, "items": ["a", "b"], "label_token_ids": [100, 200]},
    ),
    "scoring/nothing": ("/generative_scoring", {}),
    "embeddings/text": ("/v1/embeddings", {"model": MODEL, "input": TEXT}),
    "generate/tokens": (
        "/inference/v1/generate",
        {"token_ids": [100, 200], "sampling_params": {"max_tokens": 4, "temperature": 0}},
    ),
}


def rows() -> Iterator[Row]:
    """All rows of this table."""
    for path in (*ROUTES, *OTHERS):
        filled = path.replace("{response_id}", "resp_none")
        for method in METHODS:
            name = f"{method} {path}"
            yield Row(
                name=f"route/{name}",
                requests=(Request(method=method, path=filled),),
                compare=Compare.HEAD if path in MEASUREMENTS else Compare.EXACT,
                is_short=name in SHORT,
            )
    for path in ("/v1/models", "/v1/completions", "/health"):
        headers = (("Origin", "http://elsewhere"), ("Access-Control-Request-Method", "POST"))
        preflight = Request(method="OPTIONS", path=path, headers=headers, with_key=False)
        yield Row(name=f"preflight/{path}", requests=(preflight,))
    for name, (path, body) in BODIES.items():
        yield Row(name=name, requests=(post(path, body),), is_short=name.endswith(("text", "ids")))
