"""What clients are told, and billed by: the same figures as from plain vLLM."""

import json
import re
from typing import Any

import httpx
import pytest

from seesaw_cli.serve.local import LocalWorker
from support import worker_states
from support.process_watch.machine import StartWorker

pytestmark = pytest.mark.engine

TEXT = "Seesaw tips from prefill to decode and back. " * 8
COUNTERS = (
    *("prompt_tokens_total", "prompt_tokens_by_source_total", "prompt_tokens_cached_total"),
    *("prefix_cache_queries_total", "prefix_cache_hits_total"),
    *("external_prefix_cache_queries_total", "external_prefix_cache_hits_total"),
    "request_prefill_kv_computed_tokens_sum",
)


def test_cached_tokens_are_those_that_plain_vllm_would_report(start_worker: StartWorker) -> None:
    resharding = start_worker("--kv-buffer-gib=0.25", "--enable-prompt-tokens-details")
    seen = figures(resharding)
    assert worker_states.resharding(resharding.state()).paths.reshard_requests == 14
    resharding.stop()
    plain = start_worker("--reshard=never", "--enable-prompt-tokens-details")
    expected = figures(plain)
    assert expected["completion"][0] == 0 < expected["completion"][1]
    assert seen == expected


def figures(worker: LocalWorker) -> dict[str, list[Any]]:
    """Cached tokens by kind of request, each asked twice, and vLLM's counters after all."""
    with httpx.Client(base_url=worker.url, timeout=120) as client:
        found: dict[str, list[Any]] = {
            kind: [cached(client, worker, kind, path, body) for _ in range(2)]
            for kind, path, body in asked()
        }
        metrics = client.get("/metrics").text
    found["counters"] = sorted(
        line
        for line in metrics.splitlines()
        if re.match(rf"vllm:({'|'.join(COUNTERS)})[{{ ]", line)
    )
    return found


def asked() -> list[tuple[str, str, dict[str, Any]]]:
    options = {"temperature": 0, "max_tokens": 4}

    def talk(words: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": words + TEXT}]

    return [
        ("completion", "/v1/completions", options | {"prompt": "One. " + TEXT}),
        ("whole blocks", "/v1/completions", options | {"prompt": [5] * 128}),
        ("one more than blocks", "/v1/completions", options | {"prompt": [6] * 129}),
        ("chat", "/v1/chat/completions", options | {"messages": talk("Two. ")}),
        (
            "streamed chat",
            "/v1/chat/completions",
            options
            | {"messages": talk("Three. "), "stream": True}
            | {"stream_options": {"include_usage": True}},
        ),
        (
            "response",
            "/v1/responses",
            {"input": "Four. " + TEXT, "temperature": 0, "max_output_tokens": 4},
        ),
        ("message", "/v1/messages", options | {"messages": talk("Five. ")}),
    ]


def cached(
    client: httpx.Client, worker: LocalWorker, kind: str, path: str, body: dict[str, Any]
) -> Any:
    answer = client.post(path, json={"model": worker.model} | body)
    assert answer.status_code == 200, answer.text
    if body.get("stream"):
        lines = [line for line in answer.text.splitlines() if line.startswith("data: {")]
        usage = json.loads(lines[-1].removeprefix("data: "))["usage"]
    else:
        usage = answer.json()["usage"]
    if kind == "message":
        return usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    return details.get("cached_tokens")
