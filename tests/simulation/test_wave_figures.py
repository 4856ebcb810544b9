"""The built-in figures of the wave policy are no fine-tuning: around them little changes.

LLaMA2-70B on four replicas of eight A100-PCIe-40, which re-shard P8→T4P2.
"""

import pytest

from seesaw_bench.paper.cells import MODELS
from seesaw_core.layouts import Layout
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_core.routing import waves
from seesaw_core.routing.waves import WavePolicy
from seesaw_sim.draws import Lengths, arriving, draw_requests
from seesaw_sim.reports import Report
from seesaw_sim.simulate import Scenario, simulate

REQUESTS = draw_requests(
    1500, prompts=Lengths.around(800, spread=0.7), outputs=Lengths.around(200, spread=0.7)
)
NEAR_SATURATION_PER_S = 12.0


def served(
    policy: WavePolicy, *, per_s: float = NEAR_SATURATION_PER_S, burst: bool = False
) -> Report:
    scenario = Scenario(
        model=MODELS["70B"],
        device=builtin_catalogue().accelerator("A100-PCIe-40"),
        prefill=Layout(pipeline=8),
        decode=Layout(tensor=4, pipeline=2),
        num_replicas=4,
        policy=PhasePolicy(reshard=Reshard.ALWAYS),
        waves=policy,
    )
    requests = REQUESTS if burst else arriving(REQUESTS, per_s=per_s)
    return simulate(scenario, requests)


@pytest.mark.parametrize("pace", [0.5, 1.0])
def test_the_pace_of_turns_hardly_changes_throughput_and_waits(
    pace: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = served(WavePolicy())
    monkeypatch.setattr(waves, "_PACE", pace)
    other = served(WavePolicy())
    assert other.duration_s == pytest.approx(usual.duration_s, rel=0.05)
    assert other.ttft.p50 == pytest.approx(usual.ttft.p50, rel=0.1)


def test_a_burst_takes_longer_unless_hungry_replicas_share_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = served(WavePolicy(), burst=True)
    for share in (0.1, 1.0):
        monkeypatch.setattr(waves, "_HUNGRY", share)
        same = served(WavePolicy(), burst=True)
        assert same.duration_s == pytest.approx(usual.duration_s, rel=0.05)
    monkeypatch.setattr(waves, "_HUNGRY", 0.0)
    assert served(WavePolicy(), burst=True).duration_s > 1.2 * usual.duration_s


@pytest.mark.parametrize("requests", [1, 8])
def test_what_counts_as_light_traffic_hardly_changes_throughput_and_waits(requests: int) -> None:
    """In the mean of three rates: by a single one a run ends up to 7 % sooner or later."""
    rates = (10.0, 12.0, 14.0)
    usual = [served(WavePolicy(), per_s=per_s) for per_s in rates]
    other = [served(WavePolicy(light_requests=requests), per_s=per_s) for per_s in rates]
    assert sum(r.duration_s for r in other) == pytest.approx(
        sum(r.duration_s for r in usual), rel=0.05
    )
    assert sum(r.ttft.p50 for r in other) == pytest.approx(sum(r.ttft.p50 for r in usual), rel=0.2)
