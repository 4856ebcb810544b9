"""Prompts that begin alike start sooner where their prefixes are cached; others notice nothing."""

import random
from dataclasses import replace

import pytest

from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.models import dense_model
from seesaw_core.planner.workloads import Request
from seesaw_sim.draws import Lengths, arriving, draw_requests
from seesaw_sim.simulate import Scenario, simulate

BLOCK = 256
PLAIN = Scenario(
    model=dense_model(
        name="LWM-1M-7B",
        shape=ModelShape(num_layers=32, num_heads=32, num_kv_heads=32, head_dim=128),
        hidden=4096,
        intermediate=11008,
        vocab=32000,
    ),
    device=builtin_catalogue().accelerator("A100-SXM-80"),
    prefill=Layout(tensor=2),
    decode=Layout(tensor=2),
    num_instances=4,
)
CACHING = replace(PLAIN, block_tokens=BLOCK)


def conversations(number: int, turns: int, per_s: float) -> list[Request]:
    """Each turn's prompt is all that was said before, and some 500 tokens more."""
    rng = random.Random(5)
    requests = []
    for conversation in range(number):
        arrival_s = conversation / per_s
        length = rng.randint(2_000, 30_000)
        for _ in range(turns):
            output = rng.randint(50, 200)
            hashes = tuple((conversation, n) for n in range((length + output) // BLOCK))
            requests.append(
                Request(
                    arrival_s=arrival_s,
                    prompt_tokens=length,
                    output_tokens=output,
                    block_hashes=hashes,
                )
            )
            length += output + rng.randint(100, 1_000)
            arrival_s += rng.uniform(20.0, 60.0)
    return sorted(requests, key=lambda r: r.arrival_s)


def one_system_prompt(number: int, per_s: float) -> list[Request]:
    """All prompts begin with the same 4,096 tokens."""
    shared = tuple(range(4_096 // BLOCK))
    drawn = draw_requests(
        number, prompts=Lengths.around(1_000, spread=1.0), outputs=Lengths.around(100), seed=2
    )
    return [
        replace(r, prompt_tokens=4_096 + r.prompt_tokens, block_hashes=(*shared, ("own", n)))
        for n, r in enumerate(arriving(drawn, per_s=per_s, seed=2))
    ]


@pytest.mark.parametrize(
    ("requests", "share"),
    [
        pytest.param(conversations(60, turns=5, per_s=0.5), 0.3, id="conversations"),
        pytest.param(one_system_prompt(200, per_s=8.0), 0.4, id="one system prompt"),
    ],
)
def test_prompts_that_begin_alike_start_sooner(requests: list[Request], share: float) -> None:
    plain, caching = simulate(PLAIN, requests), simulate(CACHING, requests)
    assert caching.ttft.mean < share * plain.ttft.mean
    assert caching.ttft.p99 < plain.ttft.p99
    assert caching.latency.mean < plain.latency.mean
    assert caching.left_tokens == 0


def test_prompts_that_begin_differently_are_served_as_without_a_cache() -> None:
    lengths = Lengths.around(8_000, spread=1.5)
    drawn = draw_requests(150, prompts=lengths, outputs=Lengths.around(100, spread=0.8), seed=3)
    requests = [r for r in arriving(drawn, per_s=4.0, seed=3) if r.prompt_tokens < 200_000]
    plain = simulate(PLAIN, requests)
    assert simulate(CACHING, requests) == plain, "nothing can be cached without hashes"
    different = [
        replace(r, block_hashes=tuple((n, b) for b in range(r.prompt_tokens // BLOCK)))
        for n, r in enumerate(requests)
    ]
    # The cache is full, and decides only which one of several empty instances is used.
    caching = simulate(CACHING, different)
    assert caching.preemptions == plain.preemptions
    assert caching.ttft.mean == pytest.approx(plain.ttft.mean, rel=0.01)
    assert caching.latency.mean == pytest.approx(plain.latency.mean, rel=0.01)
