"""Bounds the cost of compiling a request's structured output.

Compilers of schemas and expressions unroll repeats: an array of a billion items would take all
memory of the server and so end every other request. vLLM compiles while it validates, so the check
comes before that.
"""

import json
import re
from collections.abc import Sequence
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
"""The keywords whose subschemas a schema repeats, with the keywords that bound the repeats."""
_INFINITE = float("inf")
# Possessive quantifiers avoid backtracking: a client may send a megabyte that almost matches.
_COUNT = r"\{\s*+(\d++)\s*+(?:,\s*+(?:(\d++)\s*+)?)?\}"  # as in a{3,5}
_CLASSES = (r"\[\^?\]?(?:\\.?|[^\]\\])*+(?:\]|\Z)", r"\[(?:\\.?|[^\]\\])*+(?:\]|\Z)")
"""Compilers differ in whether a first ``]`` belongs to the class or ends it."""
_LITERAL = r'"(?:\\.?|[^"\\])*+(?:"|\Z)'
_EXPRESSION = r"/(?:\\.?|[^/\\\n])++(?:/|\Z)"  # in Lark's grammars
_COMMENT = r"(?:\#|//)[^\n]*+"
_OF_REGEX = tuple(re.compile(rf"{_COUNT}|\\.|{each}|.", re.DOTALL) for each in _CLASSES)
_OF_GRAMMAR = (
    *(
        re.compile(rf"{_COUNT}|{_LITERAL}|{_COMMENT}|{_EXPRESSION}|\\.|{each}|\S", re.DOTALL)
        for each in _CLASSES
    ),
    re.compile(rf"{_COUNT}|\\.|\S", re.DOTALL),  # a reading without any of them
)
_OF_ANY = (*_OF_REGEX, *_OF_GRAMMAR)


def check_structure(params: StructuredOutputsParams | None) -> None:
    """Refuse a structure that would take too much to compile. Raises: VLLMValidationError."""
    if params is None:
        return
    for name in ("json", "regex", "grammar", "structural_tag"):
        given = getattr(params, name)
        if given is None:
            continue
        text = given if isinstance(given, str) else json.dumps(given)
        if len(text) > _MOST_BYTES:
            _refuse(name, f"has {len(text)} characters; at most {_MOST_BYTES} are compiled")
        if name in ("json", "structural_tag"):
            repeats = _repeats_in(_parsed(given), _OF_REGEX if name == "json" else _OF_ANY)
        else:
            repeats = _repeats(text, _OF_REGEX if name == "regex" else _OF_GRAMMAR)
        if repeats > _MOST_REPEATS:
            _refuse(name, f"repeats parts too often; at most {_MOST_REPEATS} repeats are compiled")


def _repeats(text: str, readings: Sequence[re.Pattern[str]]) -> int:
    """Return the number of repeats in an expression, in the reading that has most."""
    return max(_repeats_read(text, tokens) for tokens in readings) if "{" in text else 0


def _repeats_read(text: str, tokens: re.Pattern[str]) -> int:
    """Return the number of repeats in one reading, those of a group times its own repeats."""
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
        elif len(match[0]) > 2 and match[0][0] == "/" != match[0][1]:
            of_last = _repeats(match[0][1:], _OF_REGEX)
            open_groups[-1] += of_last
        else:
            of_last = 0
    return sum(open_groups)


def _repeats_in(value: Any, readings: Sequence[re.Pattern[str]]) -> int:
    """Return the number of repeats in a schema of any depth. A ``$ref`` counts once.

    readings: how strings in the schema are read.
    """
    repeats, left = 0, [(value, 1)]
    while left:
        each, times = left.pop()
        if isinstance(each, list):
            left += [(part, times) for part in each]
        elif isinstance(each, str):
            repeats += times * _repeats(each, readings)
        elif isinstance(each, dict):
            bounds = {name: _bound(each.get(name)) for name in _COUNTS}
            repeats += times * sum(bounds.values())
            repeats += sum(_bound(each.get(name)) for name in _LENGTHS)
            for name, part in each.items():
                most = max((bounds[bound] for bound in _REPEATED.get(name, ())), default=1)
                left += [(name, times), (part, min(times * max(1, most), _MOST_REPEATS + 1))]
    return repeats


def _bound(given: Any) -> int:
    is_bound = isinstance(given, int | float) and 0 < given < _INFINITE
    return int(min(given, _MOST_REPEATS + 1)) if is_bound else 0


def _parsed(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        return None  # vLLM refuses it


def _refuse(name: str, problem: str) -> None:
    raise VLLMValidationError(f"structured_outputs.{name} {problem}", parameter=name)
