"""Plans as messages: what a worker runs, what it may expect, and what it proposes."""

import dataclasses
import json
from dataclasses import replace
from typing import Any

import pytest

from seesaw_core.errors import CapacityError
from seesaw_core.layouts import LayoutPair, ModelShape, parse_layout
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.choose import PlanRequest, make_plan
from seesaw_core.planner.memory import EngineLimits
from seesaw_core.planner.model_configs import describe_model
from seesaw_core.planner.proposals import look_ahead, plan_pair, unpredicted
from seesaw_core.planner.workloads import Workload

LLAMA_70B: dict[str, Any] = {
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
LONG_PROMPTS = Workload(prompt_tokens=3000, output_tokens=250)
LONG_ANSWERS = Workload(prompt_tokens=300, output_tokens=1500)


def question(workload: Workload, *, num_devices: int = 8) -> PlanRequest:
    return PlanRequest(
        model=describe_model(LLAMA_70B, name="llama-70b"),
        device=builtin_catalogue().accelerator("L4"),
        num_devices=num_devices,
        workload=workload,
        limits=EngineLimits(step_tokens=(2048,), buffer_bytes=20 * 2**30),
        data_parallel=False,
    )


def pair(prefill: str, decode: str) -> LayoutPair:
    return LayoutPair(prefill=parse_layout(prefill), decode=parse_layout(decode))


def test_a_plan_is_the_planners_answer_and_goes_into_json() -> None:
    asked = question(LONG_PROMPTS)
    plan = make_plan(asked)
    chosen, told = plan_pair(asked, may_reshard=True)
    assert str(chosen) == str(plan.best)
    assert (told.prefill, told.decode) == (str(plan.best.prefill), str(plan.best.decode))
    assert told.predicted_tokens_per_s == round(plan.best.output_tokens_per_s)
    assert told.baseline_tokens_per_s == round(plan.static[0].output_tokens_per_s)
    assert plan.gain is not None
    assert told.gain_percent == round(100 * (plan.gain - 1)) > 0
    assert json.loads(json.dumps(dataclasses.asdict(told)))["reason"] == plan.reason


def test_a_static_plan_has_equal_layouts_and_gains_nothing() -> None:
    chosen, told = plan_pair(question(LONG_ANSWERS), may_reshard=True)
    assert chosen.prefill == chosen.decode
    assert told.gain_percent == 0
    assert told.predicted_tokens_per_s == told.baseline_tokens_per_s


def test_who_must_not_reshard_gets_the_best_static_layout() -> None:
    asked = question(LONG_PROMPTS)
    chosen, told = plan_pair(asked, may_reshard=False)
    assert str(chosen) == str(make_plan(asked).static[0])
    assert "off" in told.reason


def test_at_most_eight_rejections_are_told_each_with_a_reason() -> None:
    asked = dataclasses.replace(question(LONG_PROMPTS), limits=EngineLimits(buffer_bytes=1.0))
    assert len(make_plan(asked).rejected) > 8
    _, told = plan_pair(asked, may_reshard=True)
    assert len(told.rejected) == 8
    assert all(each.layout and each.reason for each in told.rejected)


def test_what_fits_nowhere_is_refused() -> None:
    with pytest.raises(CapacityError, match="no layout fits"):
        plan_pair(question(LONG_PROMPTS, num_devices=2), may_reshard=True)


def test_the_same_workload_proposes_nothing() -> None:
    for workload in (LONG_PROMPTS, LONG_ANSWERS):
        chosen, told = plan_pair(question(workload), may_reshard=True)
        outlook = look_ahead(question(workload), chosen, may_reshard=True)
        assert outlook.proposal is None
        assert outlook.expected_tokens_per_s == told.predicted_tokens_per_s
        assert outlook.num_running == told.num_running


@pytest.mark.parametrize(
    ("planned", "came"), [(LONG_PROMPTS, LONG_ANSWERS), (LONG_ANSWERS, LONG_PROMPTS)]
)
def test_another_workload_proposes_what_a_new_plan_for_it_would_choose(
    planned: Workload, came: Workload
) -> None:
    before, after = (replace(question(w), is_calibrated=True) for w in (planned, came))
    in_force, _ = plan_pair(before, may_reshard=True)
    proposal = look_ahead(after, in_force, may_reshard=True).proposal
    assert proposal is not None
    assert proposal.gain_percent >= 5
    again, _ = plan_pair(after, may_reshard=True)
    assert again == pair(proposal.prefill, proposal.decode)
    assert (proposal.prompt_tokens, proposal.output_tokens) == (
        came.prompt_tokens,
        came.output_tokens,
    )


def test_what_is_less_than_5_percent_better_is_not_proposed() -> None:
    asked = replace(question(LONG_ANSWERS), is_calibrated=True)
    estimates = make_plan(asked).static
    best = estimates[0].requests_per_s
    for each in estimates:
        in_force = LayoutPair(prefill=each.prefill, decode=each.decode)
        proposal = look_ahead(asked, in_force, may_reshard=True).proposal
        assert (proposal is not None) == (best >= 1.05 * each.requests_per_s)


def test_what_is_too_close_to_call_is_not_proposed() -> None:
    """Over links that nobody measured another layout may be the better one."""
    asked = question(LONG_ANSWERS)
    plan = make_plan(asked)
    close = [e for e in plan.static if e.pair in plan.close]
    assert any(plan.best.requests_per_s >= 1.05 * e.requests_per_s for e in close)
    for each in close:
        assert look_ahead(asked, each.pair, may_reshard=True).proposal is None


def test_of_layouts_that_the_planner_rejects_nothing_is_expected() -> None:
    outlook = look_ahead(question(LONG_PROMPTS), pair("T16", "T16"), may_reshard=True)
    assert outlook.expected_tokens_per_s is None
    assert outlook.proposal is None


def test_without_a_prediction_as_much_tensor_parallelism_as_the_heads_allow() -> None:
    shape = ModelShape(num_layers=4, num_heads=6, num_kv_heads=2, head_dim=64)
    chosen, told = unpredicted(shape, 4, reason="on the CPU")
    assert chosen == pair("T2P2", "T2P2")
    assert told.predicted_tokens_per_s is None
    (rejected,) = told.rejected
    assert rejected.layout == "T4"
    assert "6 attention heads" in rejected.reason
    with pytest.raises(CapacityError, match="--devices=7"):
        unpredicted(shape, 7, reason="on the CPU")
