"""Bounds on what compiling a request's output structure may take of the server.

Compilers of schemas and expressions unroll what is repeated: an array of a billion items would take
all memory of the server, and with it every other request. vLLM compiles while it validates, so
this is looked at before.
"""

import json
import re
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams

_MOST_REPEATS = 100_000
_MOST_BYTES = 1 << 20
_BOUNDS = (
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
    "minContains",
    "maxContains",
)
_INFINITE = float("inf")
_COUNTED = re.compile(r"\{\s*(\d+)\s*(?:,\s*(\d*)\s*)?\}")  # as in a{3,5}


def check_structure(wanted: StructuredOutputsParams | None) -> None:
    """Refuse a structure that would take too much to compile. Raises: VLLMValidationError."""
    if wanted is None:
        return
    for name in ("json", "regex", "grammar", "structural_tag"):
        given = getattr(wanted, name)
        if given is None:
            continue
        text = given if isinstance(given, str) else json.dumps(given)
        if len(text) > _MOST_BYTES:
            _refuse(name, f"has {len(text)} characters; at most {_MOST_BYTES} are compiled")
        repeats = sum(min(n, _MOST_REPEATS + 1) for n in _repeats(text))
        if name in ("json", "structural_tag"):
            repeats += sum(min(n, _MOST_REPEATS + 1) for n in _bounds(_parsed(given)))
        if repeats > _MOST_REPEATS:
            _refuse(name, f"repeats parts too often; at most {_MOST_REPEATS} repeats are compiled")


def _repeats(text: str) -> list[int]:
    found = [number for match in _COUNTED.finditer(text) for number in match.groups() if number]
    return [int(number[:12]) for number in found]


def _bounds(value: Any) -> list[int]:
    """All bounds in a schema, however deep, also in schemas that are strings in it."""
    found, left = [], [value]
    while left:
        each = left.pop()
        if isinstance(each, list):
            left += each
        elif isinstance(each, dict):
            left += each.values()
            counts = (each.get(name) for name in _BOUNDS)
            found += [int(n) for n in counts if isinstance(n, int | float) and 0 < n < _INFINITE]
    return found


def _parsed(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        return None  # which vLLM refuses in its own words


def _refuse(name: str, problem: str) -> None:
    raise VLLMValidationError(f"structured_outputs.{name} {problem}", parameter=name)
