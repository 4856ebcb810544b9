"""An answer as a document that can be compared: volatile values replaced by declared rules."""

import json
import re
from typing import Any, Final

from conformance.rows import Compare
from conformance.streams import fold, parse_events
from conformance.wire import Answer

TIMES: Final = {"created", "created_at", "completed_at", "queue_time", "time_to_first_token"}
"""Keys whose value is a time; only that it is a number is compared."""

RULES: Final = (
    (re.compile(r"\b[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"(?<![0-9a-f])[0-9a-f]{16,32}(?![0-9a-f])"), "<id>"),
    (re.compile(r"call_[0-9A-Za-z]+"), "call_<id>"),
    (re.compile(r"0x[0-9a-f]{6,}"), "<address>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<own address>"),
    (re.compile(r"(salt-)[0-9]"), "<salt>"),
    (re.compile(r"\[\d\d:\d\d:\d\d\] "), "<time> "),
)
"""What is replaced in every string, in this order."""

HEADER_VALUES_IGNORED: Final = {"date", "content-length"}
"""Headers of which only the number of occurrences is compared."""

HEADER_SETS: Final = {"allow"}
"""Headers whose value is a set, which Starlette lists in another order in each process."""

_JSON: Final = "application/json"


def document(answer: Answer, compare: Compare) -> dict[str, Any]:
    """What of an answer is compared."""
    made: dict[str, Any] = {"status": answer.status, "headers": _headers(answer)}
    if answer.failure:
        made["failure"] = answer.failure
    if compare is Compare.HEAD:
        return made
    content = _content(answer)
    made["body"] = _shape(content) if compare is Compare.SHAPE else content
    return made


def normalise(value: Any, key: str = "") -> Any:
    """Replace what differs from one run to the next."""
    if isinstance(value, dict):
        return {normalise(k): normalise(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [normalise(v, key) for v in value]
    if key in TIMES and isinstance(value, (int, float)):
        return "<time>"
    if isinstance(value, str):
        for pattern, instead in RULES:
            value = pattern.sub(instead, value)
    return value


def _headers(answer: Answer) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in answer.headers:
        lowered = name.lower()
        shown = "…" if lowered in HEADER_VALUES_IGNORED else str(normalise(value))
        if lowered in HEADER_SETS:
            shown = ", ".join(sorted(shown.split(", ")))
        found.setdefault(lowered, []).append(shown)
    return found


def _content(answer: Answer) -> Any:
    kind = answer.header("content-type").partition(";")[0]
    text = answer.body.decode("utf-8", errors="backslashreplace")
    if kind == _JSON:
        try:
            return normalise(json.loads(text))
        except ValueError:
            return {"no JSON": normalise(text)}
    if kind == "text/event-stream":
        return {"stream": normalise(fold(parse_events(text)))}
    return normalise(text)


def _shape(value: Any) -> Any:
    """The types in a document; of a list, those of its first element."""
    if isinstance(value, dict):
        return {k: _shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return type(value).__name__
