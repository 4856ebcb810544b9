"""Every sampling field at its edges, beyond them, and of the wrong type."""

from collections.abc import Iterator
from typing import Any, Final

from conformance.rows import MODEL, SALT, Row, post
from conformance.tables.completions import MESSAGES, TEXT

NAN: Final = float("nan")
INFINITY: Final = float("inf")
SURROGATE: Final = "\ud800"
WRONG: Final[tuple[Any, ...]] = ("word", [], {}, True, None)

VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "temperature": (0, 1e-9, 2, 2.1, 1e308, -0.1, NAN, INFINITY, 2**70, *WRONG),
    "top_p": (1, 1e-9, 0, -0.1, 1.1, NAN, *WRONG),
    "top_k": (1, 0, -1, -2, 999, 1000, 1001, 1.5, 2**31, 2**63, 2**70, *WRONG),
    "min_p": (0, 1, -0.1, 1.1, NAN, *WRONG),
    "presence_penalty": (-2, 2, -2.1, 2.1, NAN, "word", None),
    "frequency_penalty": (-2, 2, -2.1, 2.1, NAN, "word", None),
    "repetition_penalty": (1e-6, 2, 0, -1, NAN, INFINITY, 2**70, "word", None),
    "max_tokens": (0, -1, 1.5, 2030, 2048, 2**31, 2**63, 2**70, *WRONG),
    "min_tokens": (0, 8, 9, -1, 2**63, 2**70, "word", None),
    "n": (0, -1, 17, 2**31, 2**63, 2**70, 1.5, *WRONG),
    "seed": (0, -1, 2**32, 2**63 - 1, 2**63, -(2**63), 2**70, 1.5, "word"),
    "stop": ("", [""], [SURROGATE], SURROGATE, [], [1], None, "x" * 10_000, ["é", "日本"]),
    "stop_token_ids": ([0], [-1], [999], [1000], [2**31], [2**63], [2**70], ["a"], 5, None),
    "logit_bias": (
        {},
        {"100": -100},
        {"100": 101},
        {"-1": 1},
        {"1000": 1},
        {"a": 1},
        {str(2**70): 1},
        {"5": NAN},
        {"5": "a"},
        [],
        None,
    ),
    "allowed_token_ids": ([], [0], [-1], [1000], [2**70], "word", None),
    "bad_words": ([], [""], [SURROGATE], [1], "word", None),
    "stream": (None, "yes", 1, "true"),
    "stream_options": ({}, {"include_usage": True}, {"include_usage": "x"}, {"odd": 1}, "a", None),
    "truncate_prompt_tokens": (1, 0, -1, -2, 2048, 2049, 2**63, 2**70, "word", None),
    "priority": (-1, 2**63, 2**70, "word", None),
    "cache_salt": ("", "x" * 1025, SURROGATE, 5, None),
    "request_id": ("", "x" * 2000, SURROGATE, "a b\r\nc: d", 5, None),
    "user": (SURROGATE, 5, None),
    "model": (None, "", "other", 5, SURROGATE, MODEL + " "),
    "ignore_eos": (True, None, "word", 2),
    "skip_special_tokens": (False, None, "word"),
    "response_format": ("json", {}, {"type": "odd"}, {"type": "json_schema"}, None),
    "structured_outputs": ({}, "a", {"json": SURROGATE}, {"regex": ""}, {"odd": 1}, None),
    "thinking_token_budget": (-1, 0, -2, 2**70, "word"),
    "vllm_xargs": ({}, {"a": 2**70}, {"a": SURROGATE}, {"a": {"b": 1}}, "word"),
    "kv_transfer_params": ({}, {"a": 2**70}, {"a": SURROGATE}, "word", None),
    "length_penalty": (0, NAN, 2**70, "word", None),
    "use_beam_search": (True, None, "word"),
    "stream_interval": (0, 1, 2**70, "word", None),
    "repetition_detection": ({}, {"max_pattern_size": -1}, {"min_count": 2**70}, "word"),
    "logprob_token_ids": ([], [1000], [-1], [2**70], "word"),
}
"""Fields that completions and chats share."""

COMPLETION: Final[dict[str, tuple[Any, ...]]] = {
    "prompt": (
        "",
        " ",
        [],
        [""],
        [[]],
        [0],
        [999],
        [1000],
        [-1],
        [2**31],
        [2**63],
        [2**70],
        [1.5],
        ["a", 1],
        [["a"]],
        {},
        5,
        None,
        SURROGATE,
        "a\x00b",
        "日本語 é 🎉",
        [5] * 2040,
        [5] * 2047,
        [5] * 2048,
        [5] * 2049,
    ),
    "logprobs": (0, 20, 21, -1, -2, 2**70, 1.5, True, "word", None),
    "prompt_logprobs": (0, 20, 21, -1, -2, 2**70, "word", None),
    "echo": (True, None, "word"),
    "best_of": (1, 2, 0, "word"),
    "suffix": ("", 5, None),
    "prompt_embeds": ("", "AAAA", [], 5),
}

CHAT: Final[dict[str, tuple[Any, ...]]] = {
    "messages": (
        None,
        "word",
        {},
        [5],
        [{}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": ""}],
        [{"role": "user", "content": SURROGATE}],
        [{"role": "user", "content": [{"type": "odd"}]}],
        [{"role": 5, "content": "a"}],
        [{"role": "user", "content": "a", "name": "x", "odd": 1}],
        [{"role": "user", "content": "word " * 3000}],
    ),
    "logprobs": (True, None, "word", 3),
    "top_logprobs": (0, 1, 20, 21, -1, "word", None),
    "max_completion_tokens": (0, -1, 2**70, "word", None),
    "tools": ([], [{}], "word", [{"type": "function"}], None),
    "tool_choice": ("auto", "odd", {}, 5, None),
    "chat_template": ("", "{{", "{% for %}", "{{ messages[9].content }}", 5, None),
    "chat_template_kwargs": ({}, {"a": SURROGATE}, "word", None),
    "reasoning_effort": ("none", "odd", 5, None),
    "parallel_tool_calls": (False, "word", None),
    "documents": ([], [{}], "word", None),
}

_SOON: Final = {"stop": ["e", "a", "i", "o", "r"]}
ENDS: Final = {"max_tokens": _SOON, "max_completion_tokens": _SOON}
"""What else is sent with a field, so that no row generates a thousand tokens."""

SHORT: Final = {
    "completion/stop=['\\ud800']",
    "completion/top_k=1180591620717411303424",
    "completion/prompt=[1000]",
    "completion/prompt=None",
    "completion/temperature=-0.1",
    "completion/model='other'",
    "chat/messages=None",
    "chat/temperature='word'",
}


def rows() -> Iterator[Row]:
    """All rows of this table."""
    completion = {
        "model": MODEL,
        "prompt": TEXT,
        "max_tokens": 4,
        "temperature": 0,
        "seed": 7,
        "cache_salt": SALT,
    }
    chat = {
        "model": MODEL,
        "messages": MESSAGES,
        "max_tokens": 4,
        "temperature": 0,
        "seed": 7,
        "cache_salt": SALT,
    }
    yield from _table("completion", "/v1/completions", completion, VALUES | COMPLETION)
    yield from _table("chat", "/v1/chat/completions", chat, VALUES | CHAT)


def _table(
    kind: str, path: str, defaults: dict[str, Any], values: dict[str, tuple[Any, ...]]
) -> Iterator[Row]:
    for field, tried in values.items():
        for value in tried:
            name = f"{kind}/{field}={_shown(value)}"
            body = defaults | ENDS.get(field, {}) | {field: value}
            yield Row(name=name, requests=(post(path, body),), is_short=name in SHORT)
        body = {k: v for k, v in defaults.items() if k != field}
        if field in defaults:
            yield Row(name=f"{kind}/{field}-missing", requests=(post(path, body),))


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:40]}…({len(text)})"
