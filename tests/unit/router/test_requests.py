"""What the router reads of a request."""

import json
from dataclasses import replace
from typing import Any

import pytest

from seesaw_router.dispatch.parsed_request import ParsedRequest
from seesaw_router.server.requests import MAX_NAME_CHARACTERS, MAX_READ_BYTES, parse
from seesaw_router.server.routes import match

COMPLETIONS = match("POST", "/v1/completions")


def read(**fields: Any) -> ParsedRequest:
    return parse(COMPLETIONS, json.dumps({"prompt": "x", **fields}).encode())


def test_model_priority_and_stream_are_read_and_tokens_estimated() -> None:
    body = b'{"model": "llama", "prompt": "hello", "stream": true, "priority": -3}'
    expected = ParsedRequest(tokens=len(body) // 4, model="llama", priority=-3, stream=True)
    assert parse(COMPLETIONS, body) == expected


def test_the_last_of_equal_fields_counts_as_it_does_for_the_worker() -> None:
    assert parse(COMPLETIONS, b'{"model": "a", "model": "b"}').model == "b"


@pytest.mark.parametrize("model", [None, 7, ["m"], "", "a\nb", "x" * (MAX_NAME_CHARACTERS + 1)])
def test_a_model_that_is_no_name_is_left_to_the_worker(model: Any) -> None:
    assert read(model=model, stream=True) == replace(
        read(stream=True), tokens=read(model=model, stream=True).tokens
    )


@pytest.mark.parametrize("priority", [None, "high", 1.5, 2**63, [1]])
def test_a_priority_that_is_no_integer_is_left_to_the_worker(priority: Any) -> None:
    assert read(priority=priority).priority == 0


@pytest.mark.parametrize("stream", [None, 0, "no", "perhaps", 2, [True]])
def test_what_is_not_true_asks_for_no_stream(stream: Any) -> None:
    assert read(stream=stream).stream is False


def test_a_wrong_field_does_not_hide_the_others() -> None:
    request = read(model="m", priority="high", stream=True)
    assert (request.model, request.priority, request.stream) == ("m", 0, True)


def test_a_body_is_read_up_to_a_bound_and_its_length_is_known_beyond_it() -> None:
    head, tail = b'{"model": "m", "prompt": "', b'"}'
    largest = head + b"x" * (MAX_READ_BYTES - len(head) - len(tail)) + tail
    assert parse(COMPLETIONS, largest).model == "m"
    larger = parse(COMPLETIONS, largest + b" ")
    assert larger == ParsedRequest(tokens=MAX_READ_BYTES // 4)


def test_only_prompts_are_read() -> None:
    assert parse(match("POST", "/tokenize"), b'{"model": "m"}') == ParsedRequest(tokens=3)


def test_the_response_that_a_request_continues_is_read_of_bodies_of_any_length() -> None:
    responses = match("POST", "/v1/responses")
    body = b'{"input": "' + b"x" * MAX_READ_BYTES + b'", "previous_response_id": "resp_1"}'
    assert parse(responses, body).previous_response_id == "resp_1"
    assert parse(responses, b'{"previous_response_id": "../x"}').previous_response_id is None
    assert parse(COMPLETIONS, body).previous_response_id is None
