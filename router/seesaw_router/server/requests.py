"""Parses a request once, when it arrives; the rest of the router uses only the result.

Parsing does not change what is forwarded: a worker gets every body as its client sent it. So
there are no errors here: fields that cannot be read are ignored, and the worker refuses them.
"""

import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import CoreSchema, SchemaValidator, core_schema

from seesaw_router.dispatch.parsed_request import ParsedRequest
from seesaw_router.server.routes import RESPONSES, Kind, Match

# A larger body is not parsed, since parsing blocks all other requests. This size takes 0.1 ms for
# ordinary text, and up to 4 ms and 5 MiB for JSON that is designed to be slow.
MAX_READ_BYTES = 256 << 10
# The result outlives the body, and no limit on memory counts it.
MAX_NAME_CHARACTERS = 256

_BYTES_PER_TOKEN = 4  # of a request's body: text in JSON, or token ids with their commas
_PRINTABLE = r"^(?: |[^\p{C}\p{Z}])+$"  # fit for labels, logs and headers
_PREVIOUS = re.compile(rb'"previous_response_id"\s*:\s*"([A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,255})"')


def _field(schema: CoreSchema, default: object) -> core_schema.TypedDictField:
    """Returns a field that is read as vLLM reads it; it has its default if vLLM refuses it."""
    lenient = core_schema.with_default_schema(schema, default=default, on_error="default")
    return core_schema.typed_dict_field(lenient)


# The fields that are read from a body; all others are skipped. Built from pydantic's core, since a
# model or typed dictionary with lenient fields takes twice as long.
_READER = SchemaValidator(
    core_schema.typed_dict_schema(
        {
            "model": _field(
                core_schema.str_schema(pattern=_PRINTABLE, max_length=MAX_NAME_CHARACTERS), None
            ),
            "priority": _field(core_schema.int_schema(ge=-(2**63), lt=2**63), 0),
            "stream": _field(core_schema.bool_schema(), False),
        }
    )
)


def parse(route: Match, body: bytes) -> ParsedRequest:
    """Returns the parsed request. Never raises, whatever the body is."""
    fields = _fields(body) if route.kind is Kind.PROMPT else {}
    return ParsedRequest(
        tokens=max(1, len(body) // _BYTES_PER_TOKEN),
        model=fields.get("model"),
        priority=fields.get("priority", 0),
        stream=fields.get("stream", False),
        previous_response_id=_previous(body) if route.template == RESPONSES else None,
    )


def _fields(body: bytes) -> Mapping[str, Any]:
    """Returns the fields of a body, or no fields if it is not a JSON object."""
    if len(body) > MAX_READ_BYTES:
        return {}
    try:
        fields: Mapping[str, Any] = _READER.validate_json(body)
    except ValueError:  # not a JSON object, not UTF-8, nested too deeply, or a number too large
        return {}
    return fields


def _previous(body: bytes) -> str | None:
    """Returns the id of the stored response that a request of any size continues."""
    match = _PREVIOUS.search(body)
    return match[1].decode() if match else None
