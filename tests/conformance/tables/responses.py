"""OpenAI's Responses and Anthropic's Messages, stored answers included."""

from collections.abc import Iterator
from typing import Any, Final

from conformance.rows import ID, MODEL, SALT, Request, Row, post
from conformance.tables.completions import PERSON, TEXT

_TOOL: Final = {"type": "function", "name": "greet", "parameters": PERSON}
RESPONSES: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "stream": {"stream": True},
    "messages": {"input": [{"role": "user", "content": TEXT}]},
    "instructions": {"instructions": "Be brief."},
    "seeded": {"temperature": 1.0, "seed": 3, "top_p": 0.9},
    "stop": {"stop": ["e"], "max_output_tokens": 24},
    "schema": {
        "text": {"format": {"type": "json_schema", "name": "person", "schema": PERSON}},
        "max_output_tokens": 60,
    },
    "tool-required": {"tools": [_TOOL], "tool_choice": "required", "max_output_tokens": 60},
    "tool-required-stream": {
        "tools": [_TOOL],
        "tool_choice": "required",
        "max_output_tokens": 60,
        "stream": True,
    },
    "logprobs": {"top_logprobs": 2, "include": ["message.output_text.logprobs"]},
    "long": {"input": TEXT * 8, "cache_salt": SALT},
    "metadata": {"metadata": {"a": "b"}, "user": "me", "truncation": "auto"},
    "no-input": {"input": None},
    "empty-input": {"input": ""},
    "empty-list": {"input": []},
    "wrong-tokens": {"max_output_tokens": -1},
    "huge-tokens": {"max_output_tokens": 2**70},
    "huge-top-k": {"top_k": 2**70},
    "surrogate-stop": {"stop": ["\ud800"]},
    "unknown-previous": {"previous_response_id": "resp_none"},
    "odd-previous": {"previous_response_id": "x"},
    "unknown-model": {"model": "other"},
    "background-not-stored": {"background": True, "store": False},
    "unknown-tool": {"tools": [{"type": "odd"}]},
}
MESSAGES: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "stream": {"stream": True},
    "system": {"system": "Be brief."},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}]},
    "stop": {"stop_sequences": ["e"], "max_tokens": 24},
    "top-k": {"top_k": 1, "top_p": 0.5},
    "tool": {
        "tools": [{"name": "greet", "input_schema": PERSON}],
        "tool_choice": {"type": "tool", "name": "greet"},
        "max_tokens": 60,
    },
    "tool-stream": {
        "tools": [{"name": "greet", "input_schema": PERSON}],
        "tool_choice": {"type": "any"},
        "max_tokens": 60,
        "stream": True,
    },
    "long": {"messages": [{"role": "user", "content": TEXT * 8}], "cache_salt": SALT},
    "zero-tokens": {"max_tokens": 0},
    "huge-tokens": {"max_tokens": 2**70},
    "no-tokens": {"max_tokens": None},
    "huge-top-k": {"top_k": 2**70},
    "surrogate": {"stop_sequences": ["\ud800"]},
    "unknown-model": {"model": "other"},
    "no-messages": {"messages": []},
    "unknown-role": {"messages": [{"role": "odd", "content": "a"}]},
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    "output-schema": {
        "output_config": {"format": {"type": "json_schema", "schema": PERSON}},
        "max_tokens": 60,
    },
}
SHORT: Final = {"plain", "stream"}


def rows() -> Iterator[Row]:
    """All rows of this table."""
    response = {
        "model": MODEL,
        "input": TEXT,
        "max_output_tokens": 8,
        "temperature": 0,
        "cache_salt": SALT,
        "store": False,
    }
    for name, fields in RESPONSES.items():
        request = post("/v1/responses", response | fields)
        yield Row(name=f"responses/{name}", requests=(request,), is_short=name in SHORT)
    yield from _stored(response | {"store": True})
    message = {
        "model": MODEL,
        "messages": [{"role": "user", "content": TEXT}],
        "max_tokens": 8,
        "temperature": 0,
        "cache_salt": SALT,
    }
    for name, fields in MESSAGES.items():
        request = post("/v1/messages", message | fields)
        yield Row(name=f"messages/{name}", requests=(request,), is_short=name in SHORT)
    counted: dict[str, dict[str, Any]] = {
        "plain": {},
        "no-messages": {"messages": []},
        "odd": {"tools": 5},
    }
    for name, fields in counted.items():
        body = {k: v for k, v in message.items() if k != "max_tokens"} | fields
        yield Row(name=f"count/{name}", requests=(post("/v1/messages/count_tokens", body),))


def _stored(response: dict[str, Any]) -> Iterator[Row]:
    read = Request(path=f"/v1/responses/{ID}")
    cancel = post(f"/v1/responses/{ID}/cancel", b"")
    made = post("/v1/responses", response)
    yield Row(name="stored/read", requests=(made, read), is_short=True)
    yield Row(name="stored/read-stream", requests=(made, Request(path=f"{read.path}?stream=true")))
    yield Row(name="stored/cancel-finished", requests=(made, cancel))
    slow = response | {"background": True, "max_output_tokens": 900, "input": TEXT + " slowly"}
    yield Row(name="stored/cancel-running", requests=(post("/v1/responses", slow), cancel))
