"""A profile is found again from runs that were simulated with it."""

from dataclasses import replace

import pytest

from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.models import dense_model
from seesaw_core.planner.profiles import Profile
from seesaw_core.planner.workloads import Request
from seesaw_sim.fitting import Measurement, fit
from seesaw_sim.simulate import Scenario

MODEL = dense_model(
    name="m",
    shape=ModelShape(num_layers=16, num_heads=32, num_kv_heads=8, head_dim=128),
    hidden=2048,
    intermediate=8192,
    vocab=32000,
)
TRUE = Profile(
    compute_share=0.5,
    memory_share=0.6,
    pcie_all_reduce_share=0.25,
    step_overhead_ms=5.0,
    send_latency_us=400.0,
)
WORK = [
    (16, 128, 1),
    (8, 1000, 1),
    (2, 4000, 1),
    (1, 16, 64),
    (8, 16, 64),
    (64, 16, 32),
    (8, 2000, 32),
]


def scenario(layout: Layout) -> Scenario:
    return Scenario(
        model=MODEL,
        device=builtin_catalogue().accelerator("L4"),
        prefill=layout,
        decode=layout,
    )


def run(layout: Layout, count: int, prompt: int, output: int) -> Measurement:
    asked = (Request(prompt_tokens=prompt, output_tokens=output),) * count
    blank = Measurement(name="m", scenario=scenario(layout), requests=asked, seconds=1.0)
    return replace(blank, seconds=blank.predicted_s(TRUE))


def test_the_profile_behind_the_runs_is_found_and_predicts_other_runs() -> None:
    layouts = (Layout(tensor=2), Layout(pipeline=2))
    runs = [run(layout, *work) for layout in layouts for work in WORK]
    found = fit(runs, Profile())
    assert found.error < 0.02
    for layout in layouts:
        other = run(layout, 24, 600, 20)
        assert other.predicted_s(found.profile) == pytest.approx(other.seconds, rel=0.05)
        assert other.predicted_s(Profile()) != pytest.approx(other.seconds, rel=0.15)


def test_what_the_runs_do_not_tell_stays_as_it_was() -> None:
    runs = [run(Layout(tensor=2), *work) for work in WORK]
    found = fit(runs, Profile())
    assert found.profile.send_latency_us == pytest.approx(Profile().send_latency_us)
    assert found.profile.nvlink_all_reduce_share == Profile().nvlink_all_reduce_share
