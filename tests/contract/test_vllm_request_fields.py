"""The router reads a request's fields as vLLM does, whatever the client wrote there."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from seesaw_router.server.requests import parse
from seesaw_router.server.routes import match

ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3.0, 1.5, 2**62, "", "1", "3", " 3 ", "-3", "1e3", "yes"),
    *("no", "on", "off", "t", "TRUE", "true", "perhaps", [1], {}, [True]),
]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()
)


def agree(field: str, value: Any) -> None:
    body = {"model": "m", "prompt": "x", field: value}
    found = getattr(parse(match("POST", "/v1/completions"), json.dumps(body).encode()), field)
    try:
        meant = getattr(CompletionRequest.model_validate(body), field)
    except ValidationError:
        return  # the worker refuses it, so nothing is streamed or scheduled
    if field == "priority" and not -(2**63) <= (meant or 0) < 2**63:
        meant = 0  # vLLM takes it and cannot schedule it; the router's books hold 64 bits
    assert found == (meant or type(found)())


@pytest.mark.parametrize("field", ["priority", "stream"])
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_value_means_what_it_means_to_vllm(field: str, value: Any) -> None:
    agree(field, value)


@given(field=st.sampled_from(["priority", "stream"]), value=VALUES)
def test_any_value_means_what_it_means_to_vllm(field: str, value: Any) -> None:
    agree(field, value)
