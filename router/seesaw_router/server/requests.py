"""Reads a request once, as it comes in: everything behind this module knows only the result.

Reading decides nothing about what is forwarded: a worker gets every body as its client sent it.
So there are no errors here. What cannot be read is left out, and the worker refuses it in its
own words.
"""

import json
import re
from collections.abc import Mapping

from seesaw_router.dispatch.parsed_request import ParsedRequest
from seesaw_router.server.routes import RESPONSES, Kind, Match

# A larger body is taken as unread. Reading holds up all other requests: this much of ordinary
# text takes 0.1 ms, and of the most laborious JSON 4 ms and 3 MiB.
MAX_READ_BYTES = 128 << 10
# The result outlives the body, and no bound on bodies holds for it.
MAX_NAME_CHARACTERS = 256

_BYTES_PER_TOKEN = 4  # of a request's body: text in JSON, or token ids with their commas
_PRIORITIES = range(-(2**63), 2**63)
_PREVIOUS = re.compile(rb'"previous_response_id"\s*:\s*"([A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,255})"')


def parse(route: Match, body: bytes) -> ParsedRequest:
    """Returns what a request says. Never raises, whatever the body is."""
    fields = _fields(body) if route.kind is Kind.PROMPT else {}
    return ParsedRequest(
        tokens=max(1, len(body) // _BYTES_PER_TOKEN),
        model=_name(fields.get("model")),
        priority=_priority(fields.get("priority")),
        stream=fields.get("stream") is True,
        previous_response_id=_previous(body) if route.template == RESPONSES else None,
    )


def _fields(body: bytes) -> Mapping[str, object]:
    """Returns the fields of a JSON object, as the worker reads them; none of anything else."""
    if len(body) > MAX_READ_BYTES:
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):  # no JSON, no Unicode, or nested too deeply
        return {}
    return value if isinstance(value, dict) else {}


def _name(value: object) -> str | None:
    """Returns a name that is fit for labels, logs and headers, or None."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_CHARACTERS:
        return None
    return value if value.isprintable() else None


def _priority(value: object) -> int:
    """Returns a priority as vLLM takes it; its default for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value not in _PRIORITIES:
        return 0
    return value


def _previous(body: bytes) -> str | None:
    """Returns the id of the stored response that a request continues, however large it is."""
    match = _PREVIOUS.search(body)
    return match[1].decode() if match else None
