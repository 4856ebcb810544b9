"""Compares a plan's choice and its prediction with simulations.

The planner's closed forms do not model queues and waves, as the simulator does. A plan is judged by
the throughput of its choice over that of the best choice that it could have made.
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

_STATIC, _PAIRS = 3, 4  # how many of the plan's best choices are simulated


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
    """Plan for these requests, and simulate the choices that the plan ranks highest.

    Raises: CapacityError if nothing fits.
    """
    plan = make_plan(replace(question, workload=summarise(requests)))
    per_s = {}
    for estimate in {plan.best, *plan.static[:_STATIC], *plan.pairs[:_PAIRS]}:
        try:
            per_s[estimate] = simulate_choice(question, estimate, requests).requests_per_s
        except CapacityError:  # the longest request does not fit, which the summary hides
            per_s[estimate] = 0.0
    best = max(per_s, key=lambda e: per_s[e])
    if not per_s[plan.best]:
        raise CapacityError(f"{plan.best} was chosen but does not fit")
    return Verdict(
        chosen=plan.best.pair,
        best=best.pair,
        share=per_s[plan.best] / per_s[best],
        predicted_ratio=plan.best.requests_per_s / per_s[plan.best],
    )


def simulate_choice(question: PlanRequest, choice: Estimate, requests: Sequence[Request]) -> Report:
    """Simulate a choice of the planner with these requests."""
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
