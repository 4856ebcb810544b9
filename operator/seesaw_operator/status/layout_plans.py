"""Plans that workers tell of: what the status says of them, and which are applied. Pure.

A worker plans at its start, for the workload that its flags name. To apply another plan is to
name another workload, so that the workers are replaced, one at a time, and plan anew. A workload
that was applied without a person stands in an annotation of the StatefulSet whose pods have it.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict

from seesaw_core.messages import PlanSummary
from seesaw_operator.api.crd import GROUP, PLURAL
from seesaw_operator.api.parallelism import MOST_TOKENS
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import AppliedWorkload, Plan, ProposedPlan, RejectedPlan, Status
from seesaw_operator.names import Manifest
from seesaw_operator.objects.layouts import is_planned
from seesaw_operator.text import quoted

ANNOTATION = f"{GROUP}/planned-for"
_LENGTH = "[1-9][0-9]{0,7}"
_TOLD = re.compile(
    rf"({_LENGTH})/({_LENGTH}) instead of ((?:{_LENGTH}|-)/(?:{_LENGTH}|-))", re.ASCII
)


def plan_of(told: PlanSummary | None) -> Plan | None:
    """The plan that a worker tells; None if its layouts were set by hand."""
    if told is None:
        return None
    proposed = told.proposed
    return Plan(
        prefill=told.prefill,
        decode=told.decode,
        predicted_tokens_per_second=told.predicted_tokens_per_s,
        baseline_tokens_per_second=told.baseline_tokens_per_s,
        gain_percent=told.gain_percent,
        prompt_tokens=told.prompt_tokens,
        output_tokens=told.output_tokens,
        reason=quoted(told.reason),
        rejected=tuple(
            RejectedPlan(layout=each.layout, reason=quoted(each.reason)) for each in told.rejected
        ),
        proposed=None
        if proposed is None
        else ProposedPlan(**asdict(proposed) | {"reason": quoted(proposed.reason)}),
    )


def agreed(plans: Sequence[Plan | None]) -> Plan | None:
    """The first worker's plan. Something is proposed only if all workers propose the same."""
    if not plans or plans[0] is None:
        return None
    choices = {_choice(plan) for plan in plans}
    if len(choices) == 1:
        return plans[0]
    return plans[0].model_copy(update={"proposed": None})


def applied_workload(
    spec: Spec, told: Plan | None, before: AppliedWorkload | None, *, is_settled: bool
) -> AppliedWorkload | None:
    """The measured workload to plan for, in place of the one that the spec names or leaves out.

    ``is_settled``: all workers that are wanted serve under the latest spec, so that ``told`` is
    about that. What was applied stays, whatever the approval, until a person names another one.
    """
    if not is_planned(spec):
        return None
    named = _named(spec)
    proposed = None if told is None else told.proposed
    if proposed is not None and is_settled and spec.planning.approval == "Automatic":
        measured = _usable(
            AppliedWorkload(
                prompt_tokens=proposed.prompt_tokens,
                output_tokens=proposed.output_tokens,
                instead_of=named,
            )
        )
        if measured is not None:
            return measured
    return before if before is not None and before.instead_of == named else None


def with_workload(spec: Spec, applied: AppliedWorkload | None) -> Spec:
    """The spec as if it named what was applied."""
    if applied is None:
        return spec
    workload = {"prompt_tokens": applied.prompt_tokens, "output_tokens": applied.output_tokens}
    return spec.model_copy(update={"planning": spec.planning.model_copy(update=workload)})


def remember(manifests: Sequence[Manifest], applied: AppliedWorkload | None) -> None:
    """Write what was applied on the StatefulSet, in the same breath as its pods get it."""
    if applied is None:
        return
    (workers,) = (m for m in manifests if m["kind"] == "StatefulSet")
    told = f"{applied.prompt_tokens}/{applied.output_tokens} instead of {applied.instead_of}"
    workers["metadata"]["annotations"] = {ANNOTATION: told}


def remembered(stateful_set: Manifest | None, old: Status) -> AppliedWorkload | None:
    """What was applied: the StatefulSet knows, or the status, should somebody have deleted it."""
    fallback = _usable(None if old.plan is None else old.plan.applied)
    if stateful_set is None:
        return fallback
    text = (stateful_set["metadata"].get("annotations") or {}).get(ANNOTATION, "")
    found = _TOLD.fullmatch(text)
    if found is None:
        return fallback
    prompt, output, instead_of = found.groups()
    told = AppliedWorkload(
        prompt_tokens=int(prompt), output_tokens=int(output), instead_of=instead_of
    )
    return _usable(told) or fallback


def plan_status(
    spec: Spec, told: Plan | None, applied: AppliedWorkload | None, old: Status
) -> Plan | None:
    """What the status says. While no worker tells, what was told last stays."""
    if not is_planned(spec):
        return None
    plan = told or old.plan
    return None if plan is None else plan.model_copy(update={"applied": applied})


def news(old: Status, new: Status, resource: Manifest) -> list[tuple[str, str]]:
    """Reasons and messages of Events: once for each proposal, once for each that is applied."""
    before, plan = old.plan, new.plan
    if plan is None:
        return []
    found = []
    if plan.proposed is not None and _choice(plan) != _choice(before):
        found.append(("PlanProposed", _proposal(plan, plan.proposed, resource)))
    applied = plan.applied
    if applied is not None and (before is None or before.applied != applied):
        found.append(("PlanApplied", _application(applied)))
    return found


def _proposal(plan: Plan, proposed: ProposedPlan, resource: Manifest) -> str:
    begin = (
        f"{_shown(proposed.prefill, proposed.decode)} is predicted to give "
        f"{proposed.gain_percent} % more than {_shown(plan.prefill, plan.decode)}: "
        f"{proposed.reason}."
    )
    if resource["spec"].get("planning", {}).get("approval") == "Automatic":
        return f"{begin} It is applied once all workers serve."
    metadata = resource["metadata"]
    patch = (
        f'{{"spec":{{"planning":{{"promptTokens":{proposed.prompt_tokens},'
        f'"outputTokens":{proposed.output_tokens}}}}}}}'
    )
    return (
        f"{begin} To approve, which replaces the workers one at a time: kubectl patch {PLURAL} "
        f"{metadata['name']} -n {metadata['namespace']} --type=merge -p '{patch}'"
    )


def _application(applied: AppliedWorkload) -> str:
    return (
        f"The workers are replaced, one at a time, and plan for prompts of "
        f"{applied.prompt_tokens} and answers of {applied.output_tokens} tokens. To have others, "
        "change spec.planning.promptTokens and outputTokens."
    )


def _named(spec: Spec) -> str:
    """The workload that the spec names, such as 3000/250, or -/- if it names none."""
    planning = spec.planning
    return f"{planning.prompt_tokens or '-'}/{planning.output_tokens or '-'}"


def _usable(workload: AppliedWorkload | None) -> AppliedWorkload | None:
    """A workload that a spec could name too; anybody may have written this one."""
    if workload is None:
        return None
    lengths = (workload.prompt_tokens, workload.output_tokens)
    return workload if all(0 < length <= MOST_TOKENS for length in lengths) else None


def _choice(plan: Plan | None) -> tuple[str, str] | None:
    if plan is None or plan.proposed is None:
        return None
    return plan.proposed.prefill, plan.proposed.decode


def _shown(prefill: str, decode: str) -> str:
    return decode if prefill == decode else f"{prefill}→{decode}"
