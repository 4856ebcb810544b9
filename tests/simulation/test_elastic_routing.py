"""Several elastic replicas behind one router: where prompts of mixed lengths wait less."""

from dataclasses import replace
from statistics import mean

import pytest

from seesaw_core.routing import pools
from seesaw_core.routing.waves import WavePolicy
from seesaw_sim.draws import Lengths, arriving, draw_requests
from seesaw_sim.reports import Percentiles
from seesaw_sim.simulate import Scenario, simulate
from simulation.test_elastic import ELASTIC

REPLICAS = replace(ELASTIC, num_replicas=4)
LEAST_BUSY = replace(REPLICAS, waves=WavePolicy(stagger=False))
SEEDS = (1, 2)


def ttfts(scenario: Scenario) -> list[Percentiles]:
    """Times to the first token for prompts of some 100 to 100,000 tokens, 8 a second."""
    prompts, outputs = Lengths.around(8_000, spread=1.5), Lengths.around(100, spread=0.8)
    found = []
    for seed in SEEDS:
        drawn = draw_requests(400, prompts=prompts, outputs=outputs, seed=seed, longest=200_000)
        report = simulate(scenario, arriving(drawn, per_s=8.0, seed=seed))
        assert report.left_tokens == 0
        found.append(report.ttft)
    return found


def test_prompts_start_sooner_where_the_router_sees_room_and_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    least_busy, by_length = ttfts(LEAST_BUSY), ttfts(REPLICAS)
    for name, found in (("least busy", least_busy), ("by length", by_length)):
        print(f"\n{name}: p90 {mean(t.p90 for t in found):.3f} s, mean", end=" ")
        print(f"{mean(t.mean for t in found):.3f} s, p99 {mean(t.p99 for t in found):.2f} s")
    assert mean(t.p90 for t in by_length) < 0.9 * mean(t.p90 for t in least_busy)
    assert mean(t.mean for t in by_length) < 0.95 * mean(t.mean for t in least_busy)
    for running_tokens in (100, 3_000):
        monkeypatch.setattr(pools, "_RUNNING_TOKENS", running_tokens)
        p90 = mean(t.p90 for t in ttfts(REPLICAS))
        print(f"{running_tokens} tokens a running request: p90 {p90:.3f} s")
        assert p90 < 0.95 * mean(t.p90 for t in least_busy)
