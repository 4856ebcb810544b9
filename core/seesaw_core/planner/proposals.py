"""Plans of a worker that chooses its own layouts, as messages.

A worker plans once, before its engines start. Later plans, for the requests that it has served,
are proposals only: re-sharding switches between two layouts, never to others.
"""

from dataclasses import dataclass

from seesaw_core.errors import CapacityError
from seesaw_core.layouts import LayoutPair, ModelShape, misfit
from seesaw_core.messages import PlanSummary, Proposal, Rejection
from seesaw_core.planner.choose import Plan, PlanRequest, layouts_of, make_plan
from seesaw_core.planner.estimates import Estimate

# What other layouts must gain over those in force. More than MIN_GAIN_TO_RESHARD, since a change
# restarts every worker.
MIN_GAIN_TO_PROPOSE = 1.05
MAX_REJECTIONS = 8  # a status stays short, and `seesaw plan --all` prints the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What to expect of the layouts in force under a workload, and a proposal of better ones.

    ``expected_tokens_per_s`` counts output tokens, and ``num_running`` the requests that must run
    at once to reach it. Both are None if the planner now rejects the layouts in force.
    """

    expected_tokens_per_s: int | None = None
    num_running: int | None = None
    proposal: Proposal | None = None


def plan_pair(request: PlanRequest, *, may_reshard: bool) -> tuple[LayoutPair, PlanSummary]:
    """Return the layouts to run and the planner's answer. Raises: CapacityError if none fits."""
    plan = make_plan(request)
    best = _best(plan, request, may_reshard=may_reshard)
    baseline = plan.static[0] if plan.static else None
    gain = 0
    if baseline is not None and not best.is_static:
        gain = _percent(best, baseline)
    return best.pair, PlanSummary(
        prefill=str(best.prefill),
        decode=str(best.decode),
        accelerator=request.device.name,
        prompt_tokens=round(request.workload.prompt_tokens),
        output_tokens=round(request.workload.output_tokens),
        predicted_tokens_per_s=round(best.output_tokens_per_s),
        baseline_tokens_per_s=round(baseline.output_tokens_per_s) if baseline else None,
        gain_percent=gain,
        num_running=round(best.num_running),
        reason=plan.reason if may_reshard else "re-sharding is off: the best static layout",
        rejected=tuple(
            Rejection(layout=str(r.pair), reason=r.reason) for r in plan.rejected[:MAX_REJECTIONS]
        ),
    )


def unpredicted(
    shape: ModelShape, num_devices: int, *, reason: str
) -> tuple[LayoutPair, PlanSummary]:
    """Choose the static layout with the most tensor parallelism that the model allows.

    Used where nothing is predicted. Raises: CapacityError if the model allows none.
    """
    layouts = sorted(layouts_of(num_devices, data_parallel=False), key=lambda each: -each.tensor)
    rejected: list[Rejection] = []
    for layout in layouts:
        reason_against = misfit(layout, shape)
        if reason_against is None:
            return LayoutPair.static(layout), PlanSummary(
                prefill=str(layout), decode=str(layout), reason=reason, rejected=tuple(rejected)
            )
        rejected.append(Rejection(layout=str(layout), reason=reason_against.reason))
    reasons = "; ".join(f"{r.layout}: {r.reason}" for r in rejected)
    raise CapacityError(f"--devices={num_devices}: no layout fits. {reasons}")


def look_ahead(request: PlanRequest, in_force: LayoutPair, *, may_reshard: bool) -> Outlook:
    """Predict ``in_force`` for the request's workload, and propose a choice that is better."""
    try:
        plan = make_plan(request)
        best = _best(plan, request, may_reshard=may_reshard)
    except CapacityError:
        return Outlook()
    now = next((e for e in (*plan.static, *plan.pairs) if e.pair == in_force), None)
    if now is None:
        return Outlook()
    outlook = Outlook(
        expected_tokens_per_s=round(now.output_tokens_per_s), num_running=round(now.num_running)
    )
    is_close = in_force in plan.close
    if is_close or best.requests_per_s < MIN_GAIN_TO_PROPOSE * now.requests_per_s:
        return outlook
    return Outlook(
        expected_tokens_per_s=outlook.expected_tokens_per_s,
        num_running=outlook.num_running,
        proposal=_proposal(best, now, request),
    )


def _proposal(best: Estimate, now: Estimate, request: PlanRequest) -> Proposal:
    work = request.workload
    return Proposal(
        prefill=str(best.prefill),
        decode=str(best.decode),
        gain_percent=_percent(best, now),
        reason=f"prompts of {work.prompt_tokens:,.0f} and answers of {work.output_tokens:,.0f} "
        f"tokens: {best} gives {best.output_tokens_per_s:,.0f} output tokens/s, {now} "
        f"{now.output_tokens_per_s:,.0f}",
        prompt_tokens=round(work.prompt_tokens),
        output_tokens=round(work.output_tokens),
    )


def _best(plan: Plan, request: PlanRequest, *, may_reshard: bool) -> Estimate:
    if may_reshard:
        return plan.best
    if not plan.static:
        reasons = "; ".join(f"{r.pair}: {r.reason}" for r in plan.rejected[:MAX_REJECTIONS])
        raise CapacityError(
            f"{request.model.name} on {request.num_devices} x {request.device.name}: no static "
            f"layout fits. {reasons}. Let it re-shard, or use more or larger devices"
        )
    return plan.static[0]


def _percent(better: Estimate, base: Estimate) -> int:
    return round(100 * (better.requests_per_s / base.requests_per_s - 1))
