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
_ITEMS = ("minItems", "maxItems")
_PROPERTIES = ("minProperties", "maxProperties")
_CONTAINS = ("minContains", "maxContains")
_COUNTS = (*_ITEMS, *_PROPERTIES, *_CONTAINS)
_LENGTHS = ("minLength", "maxLength")  # of one kind of character, which compilers share
_REPEATED = {
    "items": _ITEMS,
    "additionalItems": _ITEMS,
    "unevaluatedItems": _ITEMS,
    "contains": _CONTAINS,
    "additionalProperties": _PROPERTIES,
    "patternProperties": _PROPERTIES,
    "propertyNames": _PROPERTIES,
    "unevaluatedProperties": _PROPERTIES,
}
"""What a schema repeats, and by which bounds."""
_INFINITE = float("inf")
# Nothing is tried twice: a client may send a megabyte of what almost fits.
_COUNT = r"\{\s*+(\d++)\s*+(?:,\s*+(?:(\d++)\s*+)?)?\}"  # as in a{3,5}
_OF_GRAMMAR = re.compile(rf"{_COUNT}|\\.|\S", re.DOTALL)
_OF_REGEX = re.compile(rf"{_COUNT}|\\.|\[\^?\]?(?:\\.?|[^\]\\])*+(?:\]|\Z)|.", re.DOTALL)


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
        if name in ("json", "structural_tag"):
            repeats = _repeats_in(_parsed(given))
        else:
            repeats = _repeats(text, _OF_REGEX if name == "regex" else _OF_GRAMMAR)
        if repeats > _MOST_REPEATS:
            _refuse(name, f"repeats parts too often; at most {_MOST_REPEATS} repeats are compiled")


def _repeats(text: str, tokens: re.Pattern[str]) -> int:
    """Repeats in an expression written out: those of a group, as often as it is repeated."""
    open_groups, of_last = [0], 0
    for match in tokens.finditer(text):
        counts = [int(number[:12]) for number in match.groups() if number]
        if counts:
            more = sum(counts) + of_last * max(0, max(counts) - 1)
            open_groups[-1] += more
            of_last += more
        elif match[0] == "(":
            open_groups.append(0)
        elif match[0] == ")" and len(open_groups) > 1:
            of_last = open_groups.pop()
            open_groups[-1] += of_last
        else:
            of_last = 0
    return sum(open_groups)


def _repeats_in(value: Any) -> int:
    """Repeats in a schema written out, however deep. What is named by ``$ref`` counts once."""
    found, left = 0, [(value, 1)]
    while left:
        each, times = left.pop()
        if isinstance(each, list):
            left += [(part, times) for part in each]
        elif isinstance(each, str):
            found += times * _repeats(each, _OF_REGEX)
        elif isinstance(each, dict):
            bounds = {name: _bound(each.get(name)) for name in _COUNTS}
            found += times * sum(bounds.values())
            found += sum(_bound(each.get(name)) for name in _LENGTHS)
            for name, part in each.items():
                most = max((bounds[bound] for bound in _REPEATED.get(name, ())), default=1)
                left += [(name, times), (part, min(times * max(1, most), _MOST_REPEATS + 1))]
    return found


def _bound(given: Any) -> int:
    is_bound = isinstance(given, int | float) and 0 < given < _INFINITE
    return int(min(given, _MOST_REPEATS + 1)) if is_bound else 0


def _parsed(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        return None  # which vLLM refuses in its own words


def _refuse(name: str, problem: str) -> None:
    raise VLLMValidationError(f"structured_outputs.{name} {problem}", parameter=name)
