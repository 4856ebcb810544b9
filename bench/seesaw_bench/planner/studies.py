"""How good a plan is: its choice, and what it foretells, held against simulations.

The planner's closed forms know nothing of queues and waves; the simulator does. A plan is as good
as the throughput of what it chose beside that of the best that it might have chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seesaw_core.errors import CapacityError
from seesaw_core.layouts import LayoutPair
from seesaw_core.planner.choose import PlanRequest, make_plan
from seesaw_core.planner.estimates import Estimate
from seesaw_core.planner.workloads import Request, summarise
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_sim.reports import Report
from seesaw_sim.simulate import Scenario, simulate

_STATIC, _PAIRS = 3, 4  # so many of the plan's best are simulated


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How good one plan is.

    ``share`` is the throughput of ``chosen`` over that of ``best``; ``predicted_ratio`` the
    predicted over the simulated throughput of ``chosen``.
    """

    chosen: LayoutPair
    best: LayoutPair
    share: float
    predicted_ratio: float


def judge_plan(question: PlanRequest, requests: Sequence[Request]) -> Verdict:
    """Plan for these requests and simulate what the plan holds for best.

    Raises: CapacityError if nothing fits.
    """
    plan = make_plan(replace(question, workload=summarise(requests)))
    per_s = {}
    for estimate in {plan.best, *plan.static[:_STATIC], *plan.pairs[:_PAIRS]}:
        try:
            per_s[estimate] = simulate_choice(question, estimate, requests).requests_per_s
        except CapacityError:  # the longest request does not fit, which means did not show
            per_s[estimate] = 0.0
    best = max(per_s, key=lambda e: per_s[e])
    if not per_s[plan.best]:
        raise CapacityError(f"{plan.best} was chosen, and does not fit")
    return Verdict(
        chosen=plan.best.pair,
        best=best.pair,
        share=per_s[plan.best] / per_s[best],
        predicted_ratio=plan.best.requests_per_s / per_s[plan.best],
    )


def simulate_choice(question: PlanRequest, choice: Estimate, requests: Sequence[Request]) -> Report:
    """What a choice of the planner does with these requests."""
    scenario = Scenario(
        model=question.model,
        device=question.device,
        prefill=choice.prefill,
        decode=choice.decode,
        profile=question.profile,
        step_tokens=choice.step_tokens,
        max_requests=question.limits.max_requests,
        buffer_bytes=question.limits.buffer_bytes,
        policy=PhasePolicy(
            reshard=Reshard.NEVER if choice.is_static else Reshard.AUTO,
            flush_timeout_s=question.limits.flush_timeout_s,
        ),
    )
    return simulate(scenario, requests)
