"""The whole status of a SeesawDeployment. Pure."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from seesaw_core.layouts import Layout
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import (
    Condition,
    ConditionType,
    LayoutsInForce,
    Plan,
    Status,
)
from seesaw_operator.names import WORKER, Owner
from seesaw_operator.objects.layouts import elastic_of, layouts_of
from seesaw_operator.status import pods
from seesaw_operator.status.component import Component, desired_by
from seesaw_operator.status.condition_state import Cause, ConditionState, Truth
from seesaw_operator.status.conditions import condition_states
from seesaw_operator.status.observed import Desired, Observed, parsed_time, time_text
from seesaw_operator.text import sanitized


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusContext:
    """What a status is computed from, besides what is desired and observed.

    previous: the status that was written last.
    generation: the generation of the spec that the new status is about.
    now: the time, in UTC.
    progress_deadline_s: how long nothing may move before the resource is stalled.
    """

    components: Sequence[Component]
    owner: Owner
    previous: Status
    generation: int
    now: dt.datetime
    progress_deadline_s: float


def status_of(context: StatusContext, spec: Spec, observed: Observed) -> Status:
    """Return the status of a resource whose objects are applied."""
    desired = desired_by(context.components, spec)
    status, is_late = _counted(context, desired, observed)
    states = condition_states(context.components, context.owner, desired, observed, is_late=is_late)
    return status.model_copy(
        update={
            "layouts": _layouts(spec, observed.plan),
            "plan": observed.plan,
            "conditions": _stamped(context, states),
        }
    )


def rejected(
    context: StatusContext, desired: Desired, observed: Observed, refusal: Cause
) -> Status:
    """Return the status of a resource whose spec is invalid or whose objects are refused.

    What was applied before continues to run, so its state is reported as usual.
    """
    truths: dict[str, Truth] = {
        ConditionType.ACCEPTED: "False",
        ConditionType.READY: "False",
        ConditionType.RECONCILING: "False",
        ConditionType.STALLED: "True",
    }
    return _obstructed(context, desired, observed, truths, refusal)


def unavailable(
    context: StatusContext, desired: Desired, observed: Observed, trouble: Cause
) -> Status:
    """Return the status of a resource whose objects a failing apiserver does not accept.

    It is unknown whether they will be accepted, so ``Accepted`` stays as it was. ``Stalled`` stays
    if it was true, since nothing has moved.
    """
    kept = tuple(
        condition
        for condition in context.previous.conditions
        if condition.type == ConditionType.ACCEPTED
        or (condition.type == ConditionType.STALLED and condition.status == "True")
    )
    is_stalled = any(condition.type == ConditionType.STALLED for condition in kept)
    truths: dict[str, Truth] = {
        ConditionType.ACCEPTED: "Unknown",  # where no earlier condition is kept
        ConditionType.READY: "False",
        ConditionType.RECONCILING: "False" if is_stalled else "True",
    }
    status = _obstructed(context, desired, observed, truths, trouble)
    types = {condition.type for condition in kept}
    others = tuple(each for each in status.conditions if each.type not in types)
    return status.model_copy(update={"conditions": kept + others})


def _obstructed(
    context: StatusContext,
    desired: Desired,
    observed: Observed,
    truths: Mapping[str, Truth],
    cause: Cause,
) -> Status:
    """Return the status where some conditions report an obstacle instead of what is observed.

    truths: the values of these conditions by their types. All of them give the same cause.
    """
    cause = replace(cause, message=sanitized(cause.message))
    status, _ = _counted(context, desired, observed)
    states = [
        replace(state, status=truths[state.type], cause=cause) if state.type in truths else state
        for state in condition_states(
            context.components, context.owner, desired, observed, is_late=False
        )
    ]
    return status.model_copy(update={"conditions": _stamped(context, states)})


def _counted(context: StatusContext, desired: Desired, observed: Observed) -> tuple[Status, bool]:
    """Return the status without new conditions, and whether nothing has moved for too long."""
    previous, now = context.previous, context.now
    counts = {
        name: count
        for component in context.components
        for name, count in component.counts(observed.components[component.name]).items()
    }
    has_moved = context.generation != previous.observed_generation or any(
        count > getattr(previous, name) for name, count in counts.items()
    )
    moved = None if has_moved else parsed_time(previous.last_progress_time)
    since = now if moved is None else min(moved, now)
    # A pod that terminates may use its whole grace period, which nothing can shorten.
    grace_ends = (parsed_time(pods.terminates_by(pod)) for pod in observed.all_pods)
    moved_last = max([since, *(end for end in grace_ends if end is not None)])
    workers = observed.components[WORKER]
    selector = context.owner.selector(WORKER)
    status = previous.model_copy(
        update={
            "observed_generation": context.generation,
            "url": context.owner.url,
            "workers": f"{workers.num_serving}/{desired.num_pods[WORKER]}",
            **counts,
            "last_progress_time": time_text(since),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(selector.items())),
            "measured": observed.measured,
        }
    )
    return status, (now - moved_last).total_seconds() > context.progress_deadline_s


def _layouts(spec: Spec, plan: Plan | None) -> LayoutsInForce | None:
    elastic = elastic_of(spec)
    if elastic is not None:
        instances = f"{elastic.instances}×{Layout(tensor=elastic.tensor)}"
        return LayoutsInForce(prefill=instances, decode=instances)
    layouts = layouts_of(spec)
    if layouts is None:
        return None if plan is None else LayoutsInForce(prefill=plan.prefill, decode=plan.decode)
    prefill, decode = layouts
    if spec.reshard == "Never":
        prefill = decode
    return LayoutsInForce(prefill=str(prefill), decode=str(decode))


def _stamped(context: StatusContext, states: Iterable[ConditionState]) -> tuple[Condition, ...]:
    """Return the conditions, each with the time since when it has its status."""
    previous = {condition.type: condition for condition in context.previous.conditions}
    now = time_text(context.now)
    return tuple(
        Condition(
            type=state.type,
            status=state.status,
            reason=state.cause.reason,
            message=state.cause.message,
            observed_generation=context.generation,
            last_transition_time=earlier.last_transition_time
            if (earlier := previous.get(state.type)) is not None and earlier.status == state.status
            else now,
        )
        for state in states
    )
