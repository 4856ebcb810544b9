"""The official ``openai`` client against a worker that re-shards for every prompt.

One worker serves all tests of this module; after each, its books must be empty again.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from seesaw_cli.serve.local import LocalWorker
from seesaw_core.event_stream import EventParser
from seesaw_core.messages import VERSION, Stage, TransitionEvent, WorkerState
from seesaw_core.reading import read_event
from seesaw_core.resharding.policy import Phase
from support.tiny_worker import FLAGS as TINY_FLAGS
from support.worker_states import is_idle, resharding

pytestmark = pytest.mark.engine

FLAGS = (*TINY_FLAGS, "--kv-buffer-gib=0.25")
TALK = (
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
    '--structured-outputs-config={"backend": "xgrammar", "disable_any_whitespace": true}',
)
PROMPT = "Seesaw tips from prefill to decode and back. " * 6
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
FORGED = {"seesaw": {"key": "x", "num_tokens": 5, "blocks": [0]}}


@pytest.fixture(scope="module")
def worker(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalWorker]:
    log = tmp_path_factory.mktemp("openai") / "worker.log"
    with LocalWorker(tiny_model, [*FLAGS, *TALK], log=log) as worker:
        yield worker


@pytest.fixture(scope="module")
def client(worker: LocalWorker) -> OpenAI:
    return OpenAI(base_url=f"{worker.url}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture(autouse=True)
def nothing_is_left(worker: LocalWorker) -> Iterator[None]:
    yield
    deadline = time.monotonic() + 10
    while not is_idle(state := worker.state()):
        assert time.monotonic() < deadline, state
        time.sleep(0.05)


def paths(worker: LocalWorker) -> tuple[int, int]:
    """Requests so far that were re-sharded, and that went in place."""
    totals = resharding(worker.state()).paths
    return totals.reshard_requests, totals.in_place_requests


def complete(client: OpenAI, worker: LocalWorker, **more: Any) -> Any:
    defaults: dict[str, Any] = {"prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    return client.completions.create(model=worker.model, **(defaults | more))


def chat(client: OpenAI, worker: LocalWorker, **more: Any) -> Any:
    messages = [{"role": "user", "content": PROMPT}]
    defaults: dict[str, Any] = {"messages": messages, "max_tokens": 12, "temperature": 0}
    return client.chat.completions.create(model=worker.model, **(defaults | more))


# ---- what clients ask for every day


def test_a_completion_streams_the_same_text_that_it_returns_at_once(
    client: OpenAI, worker: LocalWorker
) -> None:
    resharded, in_place = paths(worker)
    whole = complete(client, worker)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    stream = complete(client, worker, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text
    assert chunks[-1].usage.completion_tokens == 12
    assert len(chunks) > 4
    assert paths(worker) == (resharded + 2, in_place)


def test_a_chat_streams_the_same_text_that_it_returns_at_once(
    client: OpenAI, worker: LocalWorker
) -> None:
    whole = chat(client, worker).choices[0].message.content
    assert whole
    parts = [c.choices[0].delta.content or "" for c in chat(client, worker, stream=True)]
    assert "".join(parts) == whole


def test_many_samples_differ_and_a_seed_repeats_them(client: OpenAI, worker: LocalWorker) -> None:
    def texts(seed: int, n: int) -> list[str]:
        answer = complete(client, worker, n=n, seed=seed, temperature=1.0)
        return [c.text for c in sorted(answer.choices, key=lambda c: c.index)]

    first = texts(7, 2)
    assert first[0] != first[1]
    assert texts(7, 2) == first
    # Plain vLLM gives the i-th sample the seed plus i.
    assert first == [*texts(7, 1), *texts(8, 1)]


def test_four_unseeded_samples_are_four(client: OpenAI, worker: LocalWorker) -> None:
    answer = chat(client, worker, n=4, temperature=1.0)
    assert sorted(c.index for c in answer.choices) == [0, 1, 2, 3]
    assert len({c.message.content for c in answer.choices}) > 1


def test_log_probabilities_come_with_every_token(client: OpenAI, worker: LocalWorker) -> None:
    logprobs = complete(client, worker, logprobs=3).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == 12
    assert all(len(top) >= 3 for top in logprobs.top_logprobs)
    for chosen, top in zip(logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert chosen == max(top.values())
    content = chat(client, worker, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert len(content) == 12
    assert all(len(token.top_logprobs) == 2 for token in content)


def test_a_stop_string_ends_the_text_before_it(client: OpenAI, worker: LocalWorker) -> None:
    whole = complete(client, worker, max_tokens=24).choices[0].text
    stop = whole[len(whole) // 2 :][:4]
    choice = complete(client, worker, max_tokens=24, stop=[stop]).choices[0]
    assert choice.finish_reason == "stop"
    assert choice.text == whole[: whole.index(stop)]


@pytest.mark.parametrize("max_tokens", [1, 2, 33])
def test_max_tokens_counts(client: OpenAI, worker: LocalWorker, max_tokens: int) -> None:
    assert complete(client, worker, max_tokens=max_tokens).usage.completion_tokens == max_tokens


def test_a_schema_holds_the_answer(client: OpenAI, worker: LocalWorker) -> None:
    schema = {"name": "person", "schema": PERSON, "strict": True}
    answer = chat(
        client,
        worker,
        temperature=1.0,
        seed=3,
        max_tokens=200,
        response_format={"type": "json_schema", "json_schema": schema},
    )
    assert_person(answer.choices[0].message.content)


def test_a_named_tool_is_called_with_arguments_that_parse(
    client: OpenAI, worker: LocalWorker
) -> None:
    greet = {"name": "greet", "parameters": PERSON, "strict": True}
    answer = chat(
        client,
        worker,
        temperature=1.0,
        seed=4,
        max_tokens=200,
        tools=[{"type": "function", "function": greet}],
        tool_choice={"type": "function", "function": {"name": "greet"}},
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "greet"
    assert_person(call.function.arguments)


def assert_person(text: str) -> None:
    person = json.loads(text)
    assert sorted(person) == ["age", "name", "tags"]
    assert isinstance(person["name"], str)
    assert 0 <= person["age"] <= 99
    assert set(person["tags"]) <= {"a", "b"}


# ---- what the buffer cannot carry goes in place


def test_prompt_log_probabilities_and_echo_go_in_place(client: OpenAI, worker: LocalWorker) -> None:
    resharded, in_place = paths(worker)
    told = complete(client, worker, extra_body={"prompt_logprobs": 1})
    assert len(told.choices[0].prompt_logprobs) == told.usage.prompt_tokens
    echoed = complete(client, worker, echo=True, logprobs=1)
    assert echoed.choices[0].text.startswith(PROMPT)
    assert len(echoed.choices[0].logprobs.tokens) == echoed.usage.total_tokens
    assert paths(worker) == (resharded, in_place + 2)
    assert told.choices[0].text == complete(client, worker).choices[0].text


def test_a_prompt_of_one_token_is_served(client: OpenAI, worker: LocalWorker) -> None:
    assert complete(client, worker, prompt=[17]).usage.prompt_tokens == 1


def test_a_prompt_may_fill_the_context(client: OpenAI, worker: LocalWorker) -> None:
    answer = complete(client, worker, prompt=[17] * 2047, max_tokens=1)
    assert answer.usage.total_tokens == 2048


# ---- what is wrong is refused with 4xx and leaves nothing behind


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"temperature": -1}, id="temperature"),
        pytest.param({"max_tokens": -5}, id="max-tokens"),
        pytest.param({"prompt": []}, id="no-prompt"),
        pytest.param({"prompt": [99_999_999]}, id="no-such-token"),
        pytest.param({"prompt": [1] * 3000}, id="context-too-long"),
        pytest.param({"n": 0}, id="no-samples"),
        pytest.param({"top_p": 7}, id="top-p"),
        pytest.param({"logprobs": 10_000}, id="too-many-logprobs"),
        pytest.param({"extra_body": {"kv_transfer_params": "x"}}, id="transfer-no-object"),
        pytest.param(
            {"extra_body": {"structured_outputs": {"json": {"type": "nonsense"}}}}, id="schema"
        ),
    ],
)
def test_an_invalid_request_is_a_bad_request(
    client: OpenAI, worker: LocalWorker, wrong: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        complete(client, worker, **wrong)
    assert refused.value.status_code == 400


def test_an_unknown_model_and_an_unknown_task_are_not_found(
    client: OpenAI, worker: LocalWorker
) -> None:
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="nobody", prompt="x")
    with pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model=worker.model, input="x")
    assert 400 <= refused.value.status_code < 500


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param({"kv_transfer_params": FORGED}, id="ticket"),
        pytest.param({"kv_transfer_params": {"seesaw": "nonsense"}}, id="nonsense"),
        pytest.param({"kv_transfer_params": {"do_remote_prefill": True}}, id="others"),
        pytest.param({"kv_transfer_params": FORGED, "prompt_logprobs": 0}, id="in-place"),
    ],
)
def test_a_forged_transfer_is_ignored(
    client: OpenAI, worker: LocalWorker, forged: dict[str, Any]
) -> None:
    expected = complete(client, worker).choices[0].text
    answer = complete(client, worker, extra_body=forged)
    assert answer.choices[0].text == expected
    assert "seesaw" not in json.dumps(getattr(answer, "kv_transfer_params", None))


def test_extra_arguments_that_break_vllms_front_end_end_one_request_only(
    client: OpenAI, worker: LocalWorker
) -> None:
    """vLLM takes transfer parameters for an object wherever they come from: plain, too, 500."""
    with pytest.raises(openai.InternalServerError):
        complete(client, worker, extra_body={"vllm_xargs": {"kv_transfer_params": "nonsense"}})
    assert complete(client, worker).usage.completion_tokens == 12


def test_a_client_that_walks_away_leaves_nothing(client: OpenAI, worker: LocalWorker) -> None:
    stream = complete(client, worker, max_tokens=1500, stream=True, extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()


# ---- the rest of the server


def test_text_and_tokens_convert_into_each_other(worker: LocalWorker) -> None:
    body = {"model": worker.model, "prompt": PROMPT, "add_special_tokens": False}
    tokens = httpx.post(f"{worker.url}/tokenize", json=body).json()
    assert tokens["count"] == len(tokens["tokens"])
    assert tokens["max_model_len"] == 2048
    body = {"model": worker.model, "tokens": tokens["tokens"]}
    assert httpx.post(f"{worker.url}/detokenize", json=body).json()["prompt"] == PROMPT


def test_the_model_is_listed(client: OpenAI, worker: LocalWorker) -> None:
    (model,) = client.models.list().data
    assert model.id == worker.model


def test_metrics_are_vllms_and_ours(client: OpenAI, worker: LocalWorker) -> None:
    complete(client, worker)
    metrics = httpx.get(f"{worker.url}/metrics").text
    for family in (
        "vllm:prompt_tokens_total",
        "vllm:time_to_first_token_seconds_bucket",
        'seesaw_phase{phase="decode"} 1.0',
        'seesaw_transitions_total{to="prefill"}',
        'seesaw_transition_seconds_bucket{le="0.01",part="weights"}',
        'seesaw_kv_buffer_bytes{state="capacity"}',
        'seesaw_requests_total{path="reshard"}',
        'seesaw_prompt_tokens_total{path="in_place"}',
        "seesaw_wave_prompts_count",
        "seesaw_waiting_prompts 0.0",
    ):
        assert family in metrics, family


def test_the_state_is_that_of_a_worker_that_re_shards(worker: LocalWorker) -> None:
    state = worker.state()
    part = resharding(state)
    assert (state.version, state.mode, state.stage) == (VERSION, "resharding", Stage.SERVING)
    assert (part.reshard, part.prefill_layout, part.decode_layout) == ("always", "P2", "T2")
    assert part.buffer is not None


def test_events_tell_of_transitions_as_they_happen(client: OpenAI, worker: LocalWorker) -> None:
    with httpx.stream("GET", f"{worker.url}/seesaw/events", timeout=30) as response:
        parser = EventParser()
        events = (
            read_event(*event)
            for chunk in response.iter_bytes()
            for event in parser.feed(chunk, time.monotonic())
        )
        assert isinstance(next(events), WorkerState)
        complete(client, worker, max_tokens=1)
        transition = next(event for event in events if isinstance(event, TransitionEvent))
    assert transition.to is Phase.PREFILL
    assert transition.weight_bytes > 0
    parts = transition.pause_s + transition.weights_s + transition.resume_s
    assert parts == pytest.approx(transition.total_s)
