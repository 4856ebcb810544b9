"""Completions and chats that work: sampling, streaming, stops, structure, tools."""

from collections.abc import Iterator
from typing import Any, Final

from conformance.rows import MODEL, SALT, Compare, Row, post

TEXT: Final = "Seesaw tips from prefill to decode."
MESSAGES: Final = [{"role": "user", "content": TEXT}]
LONG: Final = [10 + n * 37 % 900 for n in range(101)]
"""Three whole blocks and a bit: long enough to be cached."""

PERSON: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
GREET: Final = {"type": "function", "function": {"name": "greet", "parameters": PERSON}}
NAMED: Final = {"type": "function", "function": {"name": "greet"}}
STREAM: Final = {"stream": True, "stream_options": {"include_usage": True}}
UNSEEDED: Final = {"seed": None, "temperature": 1.0, "ignore_eos": True}

SHORT: Final = {
    "plain",
    "stream",
    "n=2",
    "n=2-stream",
    "logprobs",
    "stop",
    "seeded",
    "echo",
    "json-schema",
    "one-token",
    "tool-named",
    "tool-named-stream",
    "cached-twice",
}
"""The cases of the short form."""

BOTH: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "stream": STREAM,
    "stream-continuous-usage": {
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    },
    "stream-without-usage": {"stream": True},
    "stream-interval": {"stream": True, "stream_interval": 4},
    "n=2": {"n": 2, "seed": 5, "temperature": 1.0},
    "n=2-stream": {"n": 2, "seed": 5, "temperature": 1.0} | STREAM,
    "n=3-unseeded": {"n": 3} | UNSEEDED,
    "seeded": {"seed": 11, "temperature": 1.0},
    "unseeded": UNSEEDED,
    "top-p": {"seed": 11, "temperature": 1.0, "top_p": 0.3},
    "top-k": {"seed": 11, "temperature": 1.0, "top_k": 3},
    "min-p": {"seed": 11, "temperature": 1.0, "min_p": 0.2},
    "penalties": {"presence_penalty": 1.5, "frequency_penalty": -1.5, "repetition_penalty": 1.3},
    "logit-bias": {"logit_bias": {"100": 100}},
    "allowed-tokens": {"allowed_token_ids": [100, 101, 102]},
    "bad-words": {"bad_words": ["the", " a"]},
    "stop": {"stop": ["e"], "max_tokens": 24},
    "stop-string": {"stop": "o", "max_tokens": 24},
    "stop-included": {"stop": ["e"], "include_stop_str_in_output": True, "max_tokens": 24},
    "stop-tokens": {"stop_token_ids": list(range(300, 700)), "max_tokens": 24},
    "stop-stream": {"stop": ["e"], "max_tokens": 24} | STREAM,
    "min-tokens": {"min_tokens": 4, "stop_token_ids": list(range(7, 1000))},
    "ignore-eos": {"ignore_eos": True},
    "max-tokens=1": {"max_tokens": 1},
    "many-tokens": {"max_tokens": 64},
    "special-tokens-kept": {"skip_special_tokens": False, "logit_bias": {"2": 100}},
    "token-ids": {"return_token_ids": True},
    "token-ids-stream": {"return_token_ids": True} | STREAM,
    "prompt-logprobs": {"prompt_logprobs": 1},
    "prompt-logprobs-stream": {"prompt_logprobs": 1} | STREAM,
    "truncated": {"truncate_prompt_tokens": 5},
    "truncated-left": {"truncate_prompt_tokens": 5, "truncation_side": "left"},
    "beam-search": {"use_beam_search": True, "n": 2},
    "beam-search-stream": {"use_beam_search": True, "n": 2} | STREAM,
    "priority": {"priority": 1},
    "request-id": {"request_id": "my-own-id"},
    "session-id": {"session_id": "my-session"},
    "user": {"user": "someone"},
    "unknown-field": {"unknown_field": {"a": 1}},
    "xargs": {"vllm_xargs": {"a": 1}},
    "kv-transfer-params": {"kv_transfer_params": {"do_remote_prefill": True}},
    "kv-transfer-params-of-ours": {"kv_transfer_params": {"seesaw": {"key": "x", "blocks": [0]}}},
    "repetition-detection": {
        "repetition_detection": {"max_pattern_size": 2, "min_pattern_size": 1, "min_count": 2}
    },
    "thinking-budget": {"thinking_token_budget": 3},
    "salted": {"cache_salt": SALT},
    "json-schema": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": PERSON},
        },
        "max_tokens": 60,
    },
    "json-schema-stream": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": PERSON},
        },
        "max_tokens": 60,
    }
    | STREAM,
    "json-object": {"response_format": {"type": "json_object"}, "max_tokens": 24},
    "text-format": {"response_format": {"type": "text"}},
    "structured-json": {"structured_outputs": {"json": PERSON}, "max_tokens": 60},
    "structured-regex": {"structured_outputs": {"regex": "[a-c]{3}[0-9]"}},
    "structured-choice": {"structured_outputs": {"choice": ["yes", "no"]}},
    "structured-grammar": {"structured_outputs": {"grammar": 'root ::= "a" | "b" root'}},
    "structured-regex-n=2": {
        "structured_outputs": {"regex": "[a-z]{3}"},
        "n": 2,
        "seed": 3,
        "temperature": 1.0,
    },
    "structured-two-kinds": {"structured_outputs": {"regex": "a", "choice": ["b"]}},
    "structured-bad-regex": {"structured_outputs": {"regex": "[a"}},
    "structured-bad-grammar": {"structured_outputs": {"grammar": "root ::= ("}},
    "structured-bad-schema": {"structured_outputs": {"json": {"type": "nothing"}}},
    "structured-empty-choice": {"structured_outputs": {"choice": []}},
    "schema-huge-maximum": {
        "structured_outputs": {"json": {"type": "integer", "maximum": 2**256 - 1}}
    },
}

COMPLETION: Final[dict[str, dict[str, Any]]] = {
    "logprobs": {"logprobs": 3},
    "logprobs-stream": {"logprobs": 3} | STREAM,
    "no-top-logprobs": {"logprobs": 0},
    "logprobs-as-ids": {"logprobs": 1, "return_tokens_as_token_ids": True},
    "logprob-token-ids": {"logprobs": 1, "logprob_token_ids": [100, 200]},
    "echo": {"echo": True, "logprobs": 1},
    "echo-only": {"echo": True, "max_tokens": 0},
    "echo-stream": {"echo": True} | STREAM,
    "best-of": {"best_of": 3, "seed": 1, "temperature": 1.0},
    "suffix": {"suffix": "the end"},
    "one-token": {"prompt": [7]},
    "one-token-stream": {"prompt": [7]} | STREAM,
    "token-prompt": {"prompt": [100, 200, 300, 400]},
    "batch-of-texts": {"prompt": [TEXT, "Once upon a time"]},
    "batch-of-tokens": {"prompt": [[100, 200, 300], [7], [400, 500]]},
    "batch-stream": {"prompt": [[100, 200, 300], [7], [400, 500]]} | STREAM,
    "batch-n=2": {"prompt": [TEXT, "Once"], "n": 2, "seed": 9, "temperature": 1.0},
    "no-special-tokens": {"add_special_tokens": False},
    "long": {"prompt": LONG, "cache_salt": SALT},
    "long-stream": {"prompt": LONG[::-1], "cache_salt": SALT} | STREAM,
    "long-echo": {"prompt": LONG[3:], "cache_salt": SALT, "echo": True, "logprobs": 1},
}

CHAT: Final[dict[str, dict[str, Any]]] = {
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "logprobs-stream": {"logprobs": True, "top_logprobs": 2} | STREAM,
    "max-completion-tokens": {"max_tokens": None, "max_completion_tokens": 5},
    "system": {"messages": [{"role": "system", "content": "Be brief."}, *MESSAGES]},
    "content-parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": TEXT}]}]},
    "several-turns": {
        "messages": [*MESSAGES, {"role": "assistant", "content": "It does."}, *MESSAGES]
    },
    "echo": {"echo": True},
    "no-generation-prompt": {"add_generation_prompt": False},
    "continued": {
        "messages": [*MESSAGES, {"role": "assistant", "content": "It"}],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    "own-template": {"chat_template": "{{ messages[0].content }}"},
    "template-kwargs": {"chat_template_kwargs": {"enable_thinking": False}},
    "reasoning-effort": {"reasoning_effort": "low"},
    "prompt-text": {"return_prompt_text": True},
    "documents": {"documents": [{"title": "a", "text": "b"}]},
    "tool-named": {"tools": [GREET], "tool_choice": NAMED, "max_tokens": 60},
    "tool-named-stream": {"tools": [GREET], "tool_choice": NAMED, "max_tokens": 60} | STREAM,
    "tool-required": {"tools": [GREET], "tool_choice": "required", "max_tokens": 60},
    "tool-required-stream": {"tools": [GREET], "tool_choice": "required", "max_tokens": 60}
    | STREAM,
    "tool-auto": {"tools": [GREET], "tool_choice": "auto"},
    "tool-none": {"tools": [GREET], "tool_choice": "none"},
    "tool-unknown": {
        "tools": [GREET],
        "tool_choice": {"type": "function", "function": {"name": "other"}},
    },
    "tool-choice-without-tools": {"tool_choice": "required"},
    "tool-result": {
        "messages": [
            *MESSAGES,
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "id": "call_a",
                        "type": "function",
                        "function": {"name": "greet", "arguments": '{"name": "a"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_a", "content": "done"},
        ],
        "tools": [GREET],
    },
    "no-messages": {"messages": []},
    "unknown-role": {"messages": [{"role": "stranger", "content": "hi"}]},
    "image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
                ],
            }
        ]
    },
}


def rows() -> Iterator[Row]:
    """All rows of this table."""
    completion = {
        "model": MODEL,
        "prompt": TEXT,
        "max_tokens": 8,
        "temperature": 0,
        "cache_salt": SALT,
    }
    chat = {
        "model": MODEL,
        "messages": MESSAGES,
        "max_tokens": 8,
        "temperature": 0,
        "cache_salt": SALT,
    }
    yield from _table("completion", "/v1/completions", completion, BOTH | COMPLETION)
    yield from _table("chat", "/v1/chat/completions", chat, BOTH | CHAT)
    for stream in (False, True):
        body = completion | {"prompt": LONG[1:], "cache_salt": SALT, "stream": stream}
        request = post("/v1/completions", body | (STREAM if stream else {}))
        name = f"completion/cached-twice{'-stream' * stream}"
        yield Row(name=name, requests=(request, request), is_short=not stream)


def _table(
    kind: str, path: str, defaults: dict[str, Any], cases: dict[str, dict[str, Any]]
) -> Iterator[Row]:
    for name, fields in cases.items():
        yield Row(
            name=f"{kind}/{name}",
            requests=(post(path, defaults | fields),),
            compare=Compare.SHAPE if fields.get("seed", 0) is None else Compare.EXACT,
            is_short=name in SHORT,
        )
