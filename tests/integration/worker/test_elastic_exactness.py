"""Tokens of elastic instances are plain vLLM's, for any plans, and no KV moves by itself.

fp32; greedy and seeded, with penalties and without; prompts of one to 8,000 tokens, the edges of
blocks and stripes included. Most runs follow plans that are drawn at random.
"""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seesaw_core.layouts import Layout
from seesaw_worker.modes.static.reference import Sample, plain_environment, plain_tokens
from seesaw_worker.synthetic import TINY, TINY_QWEN3, ModelSpec, write_checkpoint
from support.elastic.engine import ElasticJob, ElasticReport
from support.elastic.random_plans import SEED_VARIABLE

pytestmark = [pytest.mark.engine, pytest.mark.slow]

TESTS = Path(__file__).parents[2]
MAX_LEN = 8256
ENGINE: dict[str, Any] = {
    "dtype": "float32",
    "max_model_len": MAX_LEN,
    "block_size": 32,
    "generation_config": "vllm",
    "kv_cache_memory_bytes": 72 << 20,
    "max_num_seqs": 16,
}
EDGES = (1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 500, 1023, 1024, 1025)
LONG = (3001, 8000)
MODELS = {"llama": TINY, "qwen3": TINY_QWEN3}
RANDOM_PLANS = "support.elastic.random_plans.RandomPlans"
SCRIPTED_PLANS = "support.elastic.scripted_plans"


def samples_of(seed: int, lengths: tuple[int, ...]) -> list[Sample]:
    rng = random.Random(seed)
    kinds: tuple[dict[str, Any], ...] = (
        {"temperature": 0.0},
        {"temperature": 0.9, "top_p": 0.95},
        {"temperature": 0.0, "repetition_penalty": 1.5, "frequency_penalty": 0.5},
        {"temperature": 1.1, "top_k": 20, "presence_penalty": 0.7},
    )
    return [
        Sample(
            prompt=[rng.randrange(10, 900) for _ in range(length)],
            params=kinds[index % len(kinds)]
            | {"seed": seed + index, "max_tokens": rng.choice((1, 2, 7, 20)), "ignore_eos": True},
        )
        for index, length in enumerate(lengths)
    ]


def run(job: ElasticJob, folder: Path, plans: int = 0) -> ElasticReport:
    job.write(folder / "elastic.json")
    environment = plain_environment(Layout(tensor=job.settings["tensor"]))
    with (folder / "elastic.log").open("wb") as log:
        ended = subprocess.run(
            [sys.executable, "-m", "support.elastic.engine", str(folder / "elastic.json")],
            env=environment | {"PYTHONPATH": str(TESTS), SEED_VARIABLE: str(plans)},
            stdout=log,
            stderr=log,
            check=False,
        )
    assert ended.returncode == 0, (folder / "elastic.log").read_text()[-4000:]
    return ElasticReport(**json.loads(Path(job.output).read_text()))


def job_of(
    model: Path, samples: list[Sample], folder: Path, number: int, tensor: int, **more: Any
) -> ElasticJob:
    job = ElasticJob(
        model=str(model),
        output=str(folder / "elastic-tokens.json"),
        samples=samples,
        engine=ENGINE | {"kv_cache_memory_bytes": ENGINE["kv_cache_memory_bytes"] // number},
        settings={"num_instances": number, "tensor": tensor, "policy": RANDOM_PLANS},
    )
    return replace(job, **more)


def made(folder: Path, spec: ModelSpec) -> Path:
    model = folder / "model"
    write_checkpoint(model, replace(spec, max_position_embeddings=MAX_LEN))
    return model


def assert_nothing_left(report: ElasticReport) -> None:
    assert set(report.left.values()) == {0}
    assert report.state["free_tokens"] == report.state["capacity_tokens"]


def token_bytes(spec: ModelSpec) -> int:
    return spec.num_layers * 2 * spec.num_kv_heads * spec.head_dim * 4


@pytest.mark.parametrize("tensor", [1, 2])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_fp32_tokens_equal_plain_vllms_whatever_the_plans(
    name: str, number: int, tensor: int, tmp_path: Path
) -> None:
    model = made(tmp_path, MODELS[name])
    samples = samples_of(number * 10 + tensor, EDGES + LONG)
    expected = plain_tokens(model, Layout(tensor=tensor), samples, ENGINE, tmp_path)
    report = run(job_of(model, samples, tmp_path, number, tensor), tmp_path, plans=number + tensor)
    differing = [
        (len(s.prompt), s.params)
        for s, ours, theirs in zip(samples, report.tokens, expected, strict=True)
        if ours != theirs
    ]
    assert differing == []
    assert_nothing_left(report)
    moved = sum(rank["sent_bytes"]["migrate"] for rank in report.ranks)
    assert moved == report.state["migrated_tokens"] * token_bytes(MODELS[name])
    if number > 1:
        assert max(map(int, report.state["prefills"])) > 1
        assert max(map(int, report.state["decodes"])) > 1


@pytest.mark.parametrize(
    ("name", "number", "tensor"),
    [("llama", 1, 1), ("qwen3", 2, 1), ("llama", 3, 1), ("llama", 2, 2)],
)
def test_tokens_stay_whatever_is_cached_wherever(
    name: str, number: int, tensor: int, tmp_path: Path
) -> None:
    """Prompts begin alike; all come twice, so that of the second ones nearly all is cached."""
    model = made(tmp_path, MODELS[name])
    (base,) = samples_of(7, (1200,))
    rng, samples = random.Random(number), samples_of(number, EDGES)
    for index, sample in enumerate(samples):
        shared = rng.choice((0, 40, 600, 1100))
        prompt = [*base.prompt[:shared], *sample.prompt]
        samples[index] = replace(sample, prompt=prompt)
    expected = plain_tokens(model, Layout(tensor=tensor), samples, ENGINE, tmp_path)
    job = job_of(model, samples, tmp_path, number, tensor, caching=True)
    report = run(job, tmp_path, plans=number)
    assert report.more["tokens"] == [expected, expected]
    assert report.more["cache"]["hits"] > 3_000
    assert_nothing_left(report)
    assert report.state["cached_tokens"] == 0


@pytest.mark.parametrize(("name", "number", "tensor"), [("llama", 2, 1), ("qwen3", 1, 2)])
def test_a_swapped_slot_is_noticed(name: str, number: int, tensor: int, tmp_path: Path) -> None:
    model = made(tmp_path, MODELS[name])
    samples = [
        replace(sample, params=sample.params | {"max_tokens": 20})
        for sample in samples_of(1, (2, 3, 5, 9, 17))
    ]
    expected = plain_tokens(model, Layout(tensor=tensor), samples, ENGINE, tmp_path)
    worker = "support.elastic.sabotage.SwappingWorker"
    job = job_of(model, samples, tmp_path, number, tensor, worker=worker)
    assert run(job, tmp_path, plans=1).tokens != expected


def test_an_exception_in_a_rank_costs_no_token(tmp_path: Path) -> None:
    model = made(tmp_path, TINY)
    samples = samples_of(1, (64, 65, 97, 300, 5, 1, 33))
    expected = plain_tokens(model, Layout(), samples, ENGINE, tmp_path)
    worker = "support.elastic.sabotage.RaisingWorker"
    report = run(job_of(model, samples, tmp_path, 2, 1, worker=worker), tmp_path, plans=1)
    assert report.tokens == expected
    assert report.state["failures"] > 0
    assert_nothing_left(report)


def sent(report: ElasticReport, purpose: str) -> int:
    return sum(rank["sent_bytes"][purpose] for rank in report.ranks)


def test_a_thousand_scale_downs_and_scale_ups_move_no_kv(tmp_path: Path) -> None:
    """By a counter that counts where requests do migrate."""
    model = made(tmp_path, TINY)
    params = {"temperature": 0.0, "max_tokens": 2, "ignore_eos": True}
    samples = [Sample(prompt=[10 + i % 800] * 7, params=params) for i in range(1_000)]
    settings = {"num_instances": 2, "tensor": 1, "policy": f"{SCRIPTED_PLANS}.DownAndUp"}
    report = run(job_of(model, samples, tmp_path, 2, 1, settings=settings), tmp_path)
    assert report.state["prefills"] == report.state["decodes"] == {"2": 1_000}
    assert (sent(report, "migrate"), report.state["migrated_tokens"]) == (0, 0)
    assert min(sent(report, purpose) for purpose in ("ring", "query", "reply")) > 0
    report = run(job_of(model, samples_of(1, (64, 97, 300) * 3), tmp_path, 2, 1), tmp_path, plans=1)
    assert sent(report, "migrate") == report.state["migrated_tokens"] * token_bytes(TINY) > 0


def test_a_prompt_that_fits_only_into_all_free_slots_is_served(tmp_path: Path) -> None:
    """A request rests meanwhile; with the prompt, the slots are full but for one token."""
    model, capacity, resting = made(tmp_path, TINY), 512, 100
    prompt = 2 * capacity - resting - 1
    first, second = samples_of(1, (resting, prompt))
    samples = [replace(each, params=each.params | {"max_tokens": 2}) for each in (first, second)]
    expected = plain_tokens(model, Layout(), samples, ENGINE, tmp_path)
    memory = {"kv_cache_memory_bytes": capacity * token_bytes(TINY), "max_model_len": prompt + 2}
    settings = {"num_instances": 2, "tensor": 1, "policy": f"{SCRIPTED_PLANS}.OneThenTheRest"}
    job = job_of(model, samples, tmp_path, 2, 1, settings=settings, engine=ENGINE | memory)
    report = run(job, tmp_path)
    assert report.state["capacity_tokens"] == [capacity, capacity]
    assert report.tokens == expected
    assert report.state["preemptions"] == 0
    assert_nothing_left(report)
