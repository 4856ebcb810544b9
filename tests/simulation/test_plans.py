"""Plans are held against simulations of what they chose and of what they might have chosen."""

import pytest

from seesaw_bench.paper.cells import MODELS
from seesaw_bench.planner.studies import judge_plan
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.choose import PlanRequest
from seesaw_core.planner.memory import EngineLimits
from seesaw_core.planner.workloads import summarise
from seesaw_sim.draws import Lengths, draw_requests


@pytest.mark.parametrize("flush_timeout_s", [10.0, 1000.0])
@pytest.mark.parametrize("prompt_tokens", [1000, 3000])
@pytest.mark.parametrize("output_tokens", [30, 150])
def test_a_plan_chooses_nearly_the_best_of_what_it_might_have_chosen(
    prompt_tokens: int, output_tokens: int, flush_timeout_s: float
) -> None:
    requests = draw_requests(
        800,
        prompts=Lengths.around(prompt_tokens, spread=0.5),
        outputs=Lengths.around(output_tokens, spread=0.5),
    )
    question = PlanRequest(
        model=MODELS["70B"],
        device=builtin_catalogue().accelerator("A100-PCIe-40"),
        num_devices=8,
        workload=summarise(requests),
        limits=EngineLimits(flush_timeout_s=flush_timeout_s),
        is_calibrated=True,
    )
    verdict = judge_plan(question, requests)
    assert verdict.share > 0.95, verdict
    assert 0.85 < verdict.predicted_ratio < 1.15, verdict
