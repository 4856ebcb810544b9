"""Folds a stream of events, so that two can be compared although they were cut differently.

How many tokens a chunk carries depends on timing: vLLM merges what a slow reader has not taken.
So chunks of one kind are joined: their texts and token lists end to end, the last of any other
value. Chunks are of one kind if they have the same event name, the same keys and the same indexes.
"""

import json
import re
from typing import Any, Final

JOINED: Final = {
    "arguments",
    "content",
    "delta",
    "input",
    "partial_json",
    "reasoning",
    "reasoning_content",
    "text",
    "text_offset",
    "token_ids",
    "token_logprobs",
    "tokens",
    "top_logprobs",
    "logprobs",
}
"""Keys whose texts and lists are a piece of a whole. Everything else is a state of its own."""

COUNTERS: Final = {"sequence_number"}
"""Keys that count chunks, which are left out."""

LAST: Final = {"system_fingerprint"}
"""Keys that only the last chunk has, which may carry the last piece or follow it."""

Event = tuple[str, Any]

_INDEX: Final = re.compile(r'"index": \d+')


def parse_events(text: str) -> list[Event]:
    """Name and data of each server-sent event; data that is no JSON stays text."""
    events: list[Event] = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        name, data = "", []
        for line in block.splitlines():
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
            elif line:
                data.append(f"<line {line!r}>")
        if name or data:
            events.append((name, _parsed("\n".join(data))))
    return events


def fold(events: list[Event]) -> list[dict[str, Any]]:
    """Join the chunks of each kind, in the order in which the kinds first came.

    Those of several choices interleave by chance, so their order is that of their indexes.
    """
    folded: dict[tuple[int, str], dict[str, Any]] = {}
    places: dict[str, int] = {}
    for name, data in events:
        value = _without_counters(data)
        kind = json.dumps([name, _kind(value)])
        key = places.setdefault(_INDEX.sub("", kind), len(places)), kind
        if key in folded:
            folded[key]["data"] = _join(folded[key]["data"], value)
        else:
            folded[key] = {"event": name, "data": value}
    return [folded[key] for key in sorted(folded)]


def _parsed(data: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data


def _without_counters(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_counters(v) for k, v in value.items() if k not in COUNTERS}
    return [_without_counters(v) for v in value] if isinstance(value, list) else value


def _kind(value: Any, key: str = "") -> Any:
    """What tells kinds apart: keys, indexes and types of events; and a text that is no JSON."""
    if isinstance(value, dict):
        if key in JOINED:  # a piece, such as token log-probabilities keyed by token
            return "piece"
        return {k: _kind(v, k) for k, v in value.items() if k not in LAST}
    if isinstance(value, list):
        return "list" if key in JOINED else [_kind(v, key) for v in value]
    if key in {"index", "type", "output_index", "content_index"} or not key:
        return value
    return None


def _join(first: Any, second: Any, key: str = "") -> Any:
    if isinstance(first, dict) and isinstance(second, dict):
        both = {k: _join(v, second[k], k) for k, v in first.items() if k in second}
        return first | second | both
    if isinstance(first, list) and isinstance(second, list):
        if key in JOINED:
            return first + second
        if len(first) == len(second):
            return [_join(a, b) for a, b in zip(first, second, strict=True)]
    if key in JOINED and isinstance(first, str) and isinstance(second, str):
        return first + second
    return first if second is None else second
