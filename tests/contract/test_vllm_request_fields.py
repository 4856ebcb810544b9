"""The router reads a request's fields as vLLM does, whatever the client wrote there."""

import json
from typing import Any

import pytest
from pydantic import ValidationError
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from seesaw_router.server.requests import parse
from seesaw_router.server.routes import match

ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3.0, 1.5, 2**62, "", "1", "3", " 3 ", "-3", "1e3", "yes"),
    *("no", "on", "off", "t", "TRUE", "true", "perhaps", [1], {}, [True]),
]


@pytest.mark.parametrize("field", ["priority", "stream"])
@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_value_means_what_it_means_to_vllm(field: str, value: Any) -> None:
    body = {"model": "m", "prompt": "x", field: value}
    route = match("POST", "/v1/completions")
    assert route is not None
    found = getattr(parse(route, json.dumps(body).encode()), field)
    try:
        meant = getattr(CompletionRequest.model_validate(body), field)
    except ValidationError:
        meant = None  # the worker refuses it
    assert found == (meant or type(found)())
