"""Which structures of output are compiled, and which would take the server with them."""

import contextlib
import json
import time
from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams

from seesaw_worker.upstream.schemas import check_structure

MANY = {"type": "array", "minItems": 10**9}


@pytest.mark.parametrize(
    "wanted",
    [
        {"json": MANY},
        {"json": json.dumps({"properties": {"a": {"anyOf": [{"maxLength": 1e12}]}}})},
        {"json": {"properties": {str(n): {"minItems": 1000} for n in range(101)}}},
        {"json": {"pattern": "a{1000000000}"}},
        {"json": {"patternProperties": {"a{1000000000}": {}}}},
        {"json": {"maxItems": 1000, "items": {"maxProperties": 1000, "propertyNames": {}}}},
        {"json": {"maxItems": 1000, "items": {"pattern": "a{1000}"}}},
        {"regex": r"([)]a{1000}){1000}"},
        {"regex": r"a{1000}{1000}"},
        {"json": {"description": "x" * (1 << 20)}},
        {"regex": "(ab{2,999999999})"},
        {"grammar": 'start: "a"{1,1000000}'},
        {"grammar": 'root ::= [] "a"{1000000000} "]"'},
        {"grammar": 'root ::= "a" # it is "x\n b ::= "b"{1000000000}'},
        {"grammar": "start: /(a{1000}){1000}/"},
        {"regex": "[^]a{1000000000}]"},
        {"structural_tag": json.dumps({"structures": [{"schema": MANY}]})},
        {"structural_tag": json.dumps({"grammar": 'root ::= "[" "a"{1000000000}'})},
    ],
    ids=str,
)
def test_a_structure_that_repeats_without_bound_is_refused_by_name(wanted: dict[str, Any]) -> None:
    with pytest.raises(VLLMValidationError, match=next(iter(wanted))):
        check_structure(StructuredOutputsParams(**wanted))


@pytest.mark.parametrize(
    "wanted",
    [
        {"json": {"type": "array", "minItems": 3, "maxItems": 50_000}},
        {"json": {"maximum": 2**256, "maxLength": 4096, "minItems": float("inf")}},
        {"json": "no JSON"},
        {"json": {"maxItems": 100, "items": {"properties": {"name": {"maxLength": 5000}}}}},
        {"regex": r"[0-9]{4}-[0-9]{2,}"},
        {"regex": r"(a{1000}|\(b{1000}\)){20}(c{1000}[({]){20}"},
        {"choice": ["a{1000000000}"]},
        {"json_object": True},
    ],
    ids=str,
)
def test_ordinary_structures_pass(wanted: dict[str, Any]) -> None:
    check_structure(StructuredOutputsParams(**wanted))
    check_structure(None)


@pytest.mark.parametrize(
    "wanted",
    [
        {"regex": "[" * 500_000},
        {"regex": "{1," + " " * 500_000},
        {"regex": "{" * 500_000},
        {"grammar": "{" + '"' * 500_001},
        {"grammar": "{" + "/" * 500_001},
        {"grammar": "{" + "/a\n" * 200_000},
        {"grammar": "{" + "[" * 500_001},
        {"regex": "[" + "\\" * 500_001},
        {"json": {"pattern": "[" * 500_000}},
        {"json": '{"items": {"maxItems": %s, ' % ("9" * 4000) * 200 + "1" + "}}" * 200},
    ],
    ids=lambda wanted: str(wanted)[:20],
)
def test_what_never_fits_is_looked_at_once(wanted: dict[str, Any]) -> None:
    began_s = time.process_time()
    with contextlib.suppress(VLLMValidationError):
        check_structure(StructuredOutputsParams(**wanted))
    assert time.process_time() - began_s < 5  # a quadratic look takes minutes
