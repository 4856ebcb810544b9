"""Reads a request once, as it comes in: everything behind this module knows only the result.

Reading decides nothing about what is forwarded: a worker gets every body as its client sent it.
So there are no errors here. What cannot be read is left out, and the worker refuses it in its
own words.
"""

import re
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from seesaw_router.dispatch.parsed_request import ParsedRequest
from seesaw_router.server.routes import RESPONSES, Kind, Match

# A larger body is taken as unread, since reading holds up all other requests: this much takes
# 0.1 ms for ordinary text, and up to 4 ms and 5 MiB for JSON that is made to be laborious.
MAX_READ_BYTES = 256 << 10
# The result outlives the body, and counts against no bound on memory.
MAX_NAME_CHARACTERS = 256

_BYTES_PER_TOKEN = 4  # of a request's body: text in JSON, or token ids with their commas
_PRIORITIES = range(-(2**63), 2**63)
_PREVIOUS = re.compile(rb'"previous_response_id"\s*:\s*"([A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,255})"')


class _Fields(TypedDict, total=False):
    """The fields that are read of a body, whatever their values are; the others are skipped."""

    model: Any
    priority: Any
    stream: Any


_READER = TypeAdapter(_Fields).validator
_INTEGER = TypeAdapter(int).validator
_TRUTH = TypeAdapter(bool).validator
_UNREAD = _Fields()


def parse(route: Match, body: bytes) -> ParsedRequest:
    """Returns what a request says. Never raises, whatever the body is."""
    fields = _read(body) if route.kind is Kind.PROMPT else _UNREAD
    return ParsedRequest(
        tokens=max(1, len(body) // _BYTES_PER_TOKEN),
        model=_name(fields.get("model")),
        priority=_priority(fields.get("priority")),
        stream=_stream(fields.get("stream")),
        previous_response_id=_previous(body) if route.template == RESPONSES else None,
    )


def _read(body: bytes) -> _Fields:
    """Returns the fields of a body that is a JSON object; none of any other."""
    if len(body) > MAX_READ_BYTES:
        return _UNREAD
    try:
        fields: _Fields = _READER.validate_json(body)
    except ValueError:  # no JSON object, no UTF-8, nested too deeply, or a number too large
        return _UNREAD
    return fields


def _name(value: Any) -> str | None:
    """Returns a name that is fit for labels, logs and headers, or None."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARACTERS:
        return None
    return value if value.isprintable() else None


def _priority(value: Any) -> int:
    """Returns a priority as vLLM reads it, ``"3"`` included; its default for anything else."""
    if value is None:
        return 0
    try:
        priority: int = _INTEGER.validate_python(value)
    except ValueError:
        return 0
    return priority if priority in _PRIORITIES else 0


def _stream(value: Any) -> bool:
    """Returns whether vLLM would stream, which takes ``1`` and ``"yes"`` for true, too."""
    if value is None:
        return False
    try:
        return bool(_TRUTH.validate_python(value))
    except ValueError:
        return False


def _previous(body: bytes) -> str | None:
    """Returns the id of the stored response that a request continues, however large it is."""
    match = _PREVIOUS.search(body)
    return match[1].decode() if match else None
