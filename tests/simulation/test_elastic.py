"""Elastic instances in the simulator: long prompts beside short ones, and nothing left behind."""

from dataclasses import replace

import pytest

from seesaw_core.errors import CapacityError
from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.models import dense_model
from seesaw_core.planner.workloads import Request
from seesaw_sim.draws import Lengths, arriving, draw_requests
from seesaw_sim.simulate import Scenario, simulate

LWM = dense_model(
    name="LWM-1M-7B",
    shape=ModelShape(num_layers=32, num_heads=32, num_kv_heads=32, head_dim=128),
    hidden=4096,
    intermediate=11008,
    vocab=32000,
)
ELASTIC = Scenario(
    model=LWM,
    device=builtin_catalogue().accelerator("A100-SXM-80"),
    prefill=Layout(tensor=2),
    decode=Layout(tensor=2),
    num_instances=4,
)
COPIES = replace(
    ELASTIC, prefill=Layout(data=4, tensor=2), decode=Layout(data=4, tensor=2), num_instances=0
)
WIDE = replace(ELASTIC, prefill=Layout(tensor=8), decode=Layout(tensor=8), num_instances=0)


def mixed(per_s: float) -> list[Request]:
    """Prompts of 100 to 100,000 tokens side by side."""
    lengths = Lengths.around(8_000, spread=1.5)
    drawn = draw_requests(150, prompts=lengths, outputs=Lengths.around(100, spread=0.8), seed=3)
    fitting = [r for r in drawn if r.prompt_tokens + r.output_tokens < 200_000]
    return arriving(fitting, per_s=per_s, seed=3)


def test_every_request_ends_and_no_kv_stays_behind() -> None:
    report = simulate(ELASTIC, mixed(per_s=2.0))
    assert report.generated_tokens == report.output_tokens
    assert report.left_tokens == 0
    assert simulate(ELASTIC, mixed(per_s=2.0)) == report


def test_mixed_lengths_wait_less_than_under_four_copies() -> None:
    requests = mixed(per_s=1.0)
    elastic, other = simulate(ELASTIC, requests), simulate(COPIES, requests)
    assert elastic.ttft.p99 < 0.7 * other.ttft.p99
    assert elastic.latency.mean < other.latency.mean


def test_eight_ranks_over_nvlink_answer_sooner_until_prompts_queue() -> None:
    elastic, wide = (simulate(each, mixed(per_s=1.0)) for each in (ELASTIC, WIDE))
    assert elastic.ttft.mean < 0.85 * wide.ttft.mean
    assert elastic.latency.mean > wide.latency.mean
    elastic, wide = (simulate(each, mixed(per_s=4.0)) for each in (ELASTIC, WIDE))
    assert elastic.latency.mean < 0.9 * wide.latency.mean


def test_a_prompt_larger_than_an_instance_is_served_by_several() -> None:
    long = [Request(arrival_s=0.0, prompt_tokens=600_000, output_tokens=10)]
    assert simulate(ELASTIC, long).left_tokens == 0
    with pytest.raises(CapacityError):
        simulate(COPIES, long)
    longer = [replace(long[0], prompt_tokens=2_000_000)]
    with pytest.raises(CapacityError, match="does not fit into the pool"):
        simulate(ELASTIC, longer)
