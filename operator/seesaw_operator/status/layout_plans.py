"""Layout plans that workers report: what the status shows, and which are applied. Pure.

A worker plans at its start, for the workload that its flags name. To apply another plan is to name
another workload, upon which the workers are replaced, one at a time, and plan again. A workload
that was applied without a person's approval is recorded in an annotation of the StatefulSet, in the
same write that gives it to the pods.
"""

from collections.abc import Sequence
from dataclasses import asdict

from pydantic import ValidationError

from seesaw_core.messages import PlanSummary
from seesaw_operator.api.crd import PLURAL
from seesaw_operator.api.parallelism import MOST_TOKENS
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import AppliedWorkload, Plan, ProposedPlan, RejectedPlan, Status
from seesaw_operator.names import Manifest
from seesaw_operator.objects.layouts import is_planned
from seesaw_operator.objects.worker import PLANNED_FOR
from seesaw_operator.status.condition_state import Cause
from seesaw_operator.text import sanitized


def plan_of(summary: PlanSummary | None) -> Plan | None:
    """Return the plan that a worker reports; None if its layouts were set by hand."""
    if summary is None:
        return None
    proposed = summary.proposed
    return Plan(
        prefill=summary.prefill,
        decode=summary.decode,
        predicted_tokens_per_second=summary.predicted_tokens_per_s,
        baseline_tokens_per_second=summary.baseline_tokens_per_s,
        gain_percent=summary.gain_percent,
        prompt_tokens=summary.prompt_tokens,
        output_tokens=summary.output_tokens,
        reason=sanitized(summary.reason),
        rejected=tuple(
            RejectedPlan(layout=each.layout, reason=sanitized(each.reason))
            for each in summary.rejected
        ),
        proposed=None
        if proposed is None
        else ProposedPlan(**asdict(proposed) | {"reason": sanitized(proposed.reason)}),
    )


def agreed(plans: Sequence[Plan | None]) -> Plan | None:
    """Return the first worker's plan, with its proposal only if all workers propose the same."""
    if not plans or plans[0] is None:
        return None
    proposals = {_proposed_layouts(plan) for plan in plans}
    if len(proposals) == 1:
        return plans[0]
    return plans[0].model_copy(update={"proposed": None})


def applied_workload(
    spec: Spec, plan: Plan | None, previous: AppliedWorkload | None, *, is_settled: bool
) -> AppliedWorkload | None:
    """Return the measured workload that replaces the spec's; None if the spec's holds.

    plan: what the workers report now.
    previous: the workload that is applied at present. It stays applied, whatever the approval,
        until a person names another workload in the spec.
    is_settled: whether all desired workers serve under the latest spec, so that ``plan`` is about
        that spec.
    """
    if not is_planned(spec):
        return None
    named = _named_workload(spec)
    proposed = None if plan is None else plan.proposed
    if proposed is not None and is_settled and spec.planning.approval == "Automatic":
        measured = _valid(
            AppliedWorkload(
                prompt_tokens=proposed.prompt_tokens,
                output_tokens=proposed.output_tokens,
                instead_of=named,
            )
        )
        if measured is not None:
            return measured
    return previous if previous is not None and previous.instead_of == named else None


def with_workload(spec: Spec, applied: AppliedWorkload | None) -> Spec:
    """Return the spec as if it named the applied workload."""
    if applied is None:
        return spec
    workload = {"prompt_tokens": applied.prompt_tokens, "output_tokens": applied.output_tokens}
    return spec.model_copy(update={"planning": spec.planning.model_copy(update=workload)})


def recorded_workload(stateful_set: Manifest | None, old: Status) -> AppliedWorkload | None:
    """Return what was applied last, from the StatefulSet's annotation.

    The status holds the same, in case somebody has deleted the StatefulSet or its annotation.
    """
    annotations = ((stateful_set or {}).get("metadata") or {}).get("annotations") or {}
    try:
        text = annotations.get(PLANNED_FOR, "")
        recorded = _valid(AppliedWorkload.model_validate_json(text, strict=True))
    except ValidationError:
        recorded = None
    return recorded or _valid(None if old.plan is None else old.plan.applied)


def plan_status(
    spec: Spec, plan: Plan | None, applied: AppliedWorkload | None, old: Status
) -> Plan | None:
    """Return what the status shows. While no worker reports a plan, the last one stays."""
    if not is_planned(spec):
        return None
    latest = plan or old.plan
    return None if latest is None else latest.model_copy(update={"applied": applied})


def events(old: Status, new: Status, resource: Manifest) -> list[Cause]:
    """Return an Event for each new proposal and for each workload that is newly applied."""
    previous, plan = old.plan, new.plan
    if plan is None:
        return []
    found = []
    if plan.proposed is not None and _proposed_layouts(plan) != _proposed_layouts(previous):
        message = _proposal_message(plan, plan.proposed, resource)
        found.append(Cause(reason="PlanProposed", message=message))
    applied = plan.applied
    if applied is not None and (previous is None or previous.applied != applied):
        message = (
            f"The workers are replaced, one at a time, and plan for prompts of "
            f"{applied.prompt_tokens} and answers of {applied.output_tokens} tokens. To plan for "
            "others, change spec.planning.promptTokens and outputTokens."
        )
        found.append(Cause(reason="PlanApplied", message=message))
    return found


def _proposal_message(plan: Plan, proposed: ProposedPlan, resource: Manifest) -> str:
    prediction = (
        f"{_pair(proposed.prefill, proposed.decode)} is predicted to give "
        f"{proposed.gain_percent} % more than {_pair(plan.prefill, plan.decode)}: "
        f"{proposed.reason}."
    )
    if resource["spec"].get("planning", {}).get("approval") == "Automatic":
        return f"{prediction} It is applied once all workers serve."
    metadata = resource["metadata"]
    patch = (
        f'{{"spec":{{"planning":{{"promptTokens":{proposed.prompt_tokens},'
        f'"outputTokens":{proposed.output_tokens}}}}}}}'
    )
    return (
        f"{prediction} To approve, which replaces the workers one at a time: kubectl patch "
        f"{PLURAL} {metadata['name']} -n {metadata['namespace']} --type=merge -p '{patch}'"
    )


def _named_workload(spec: Spec) -> str:
    """Return the workload that the spec names, such as 3000/250, or -/- if it names none."""
    planning = spec.planning
    return f"{planning.prompt_tokens or '-'}/{planning.output_tokens or '-'}"


def _valid(workload: AppliedWorkload | None) -> AppliedWorkload | None:
    """Return a workload if a spec could name it too: anybody may have written this one."""
    if workload is None:
        return None
    lengths = (workload.prompt_tokens, workload.output_tokens)
    return workload if all(0 < length <= MOST_TOKENS for length in lengths) else None


def _proposed_layouts(plan: Plan | None) -> tuple[str, str] | None:
    if plan is None or plan.proposed is None:
        return None
    return plan.proposed.prefill, plan.proposed.decode


def _pair(prefill: str, decode: str) -> str:
    return decode if prefill == decode else f"{prefill}→{decode}"
