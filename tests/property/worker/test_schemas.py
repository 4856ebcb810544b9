"""Repeats within repeats multiply, wherever they stand, and are compiled up to one bound."""

from collections.abc import Callable
from itertools import accumulate
from operator import mul
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams

from seesaw_worker.upstream.schemas import check_structure

COUNTS = st.lists(st.integers(1, 1000), max_size=5)
WRAPPINGS: list[Callable[[Any], Any]] = [
    lambda inner: inner,
    lambda inner: {"type": "object", "properties": {"maxItems": inner}},
    lambda inner: {"anyOf": [{"type": "null"}, inner]},
    lambda inner: {"$defs": {"inner": inner}},
]
REPEATS: list[Callable[[int, Any], dict[str, Any]]] = [
    lambda n, inner: {"type": "array", "maxItems": n, "items": inner},
    lambda n, inner: {"type": "array", "maxContains": n, "contains": inner},
    lambda n, inner: {"type": "object", "maxProperties": n, "additionalProperties": inner},
]


def is_compiled(**wanted: Any) -> bool:
    try:
        check_structure(StructuredOutputsParams(**wanted))
    except VLLMValidationError:
        return False
    return True


def fits(counts: list[int]) -> bool:
    """Written out, each level has as many parts as all levels around it say together."""
    num_parts: int = sum(accumulate(counts, mul))
    return num_parts <= 100_000


@given(COUNTS, st.data())
def test_nested_bounds_of_a_schema_multiply(counts: list[int], data: st.DataObject) -> None:
    schema: Any = {"type": "integer"}
    for count in reversed(counts):
        schema = data.draw(st.sampled_from(WRAPPINGS))(schema)
        schema = data.draw(st.sampled_from(REPEATS))(count, schema)
    assert is_compiled(json=schema) == fits(counts)


@given(COUNTS, st.sampled_from(["({}{{{}}})", "x({}{{{}}}|y)", r"\(([)]{}){{{}}}[(]"]))
def test_nested_repeats_of_an_expression_multiply(counts: list[int], group: str) -> None:
    expression = "a"
    for count in reversed(counts):
        expression = group.format(expression, count)
    assert is_compiled(regex=expression) == fits(counts)


@given(COUNTS, st.sampled_from(["({}{{{}}})", '")" ("(" {}{{{}}} | "}}")', "[(] ([)] {}{{{}}})"]))
def test_nested_repeats_of_a_grammar_multiply(counts: list[int], group: str) -> None:
    rule = '"a"'
    for count in reversed(counts):
        rule = group.format(rule, count)
    assert is_compiled(grammar=f"root ::= {rule}") == fits(counts)
