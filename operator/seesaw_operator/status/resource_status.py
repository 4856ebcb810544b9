"""What a SeesawDeployment's status says, from what there is in the cluster. Pure."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import (
    Condition,
    ConditionType,
    LayoutsInForce,
    Plan,
    Status,
)
from seesaw_operator.names import Owner
from seesaw_operator.objects.layouts import layouts_of
from seesaw_operator.objects.worker import COMPONENT as WORKER
from seesaw_operator.status import pods
from seesaw_operator.status.conditions import Outlook, Truth, outlooks
from seesaw_operator.status.observed import Observed, Wanted, moment, time_text, wanted_by
from seesaw_operator.text import quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The status as it was; the generation that is looked at now, and the time in UTC."""

    status: Status
    generation: int
    now: dt.datetime
    progress_deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Why a spec is not in force: in one word for programs, and in words for people."""

    reason: str
    message: str

    @property
    def told(self) -> str:
        return quoted(self.message)


def status_of(spec: Spec, owner: Owner, seen: Observed, before: Before) -> Status:
    """The whole status of a resource whose objects are applied."""
    wanted = wanted_by(spec)
    status, is_late = _seen(wanted, owner, seen, before)
    told = outlooks(wanted, owner, seen, is_late=is_late)
    return status.model_copy(
        update={
            "layouts": _layouts(spec, seen.plan),
            "plan": seen.plan,
            "conditions": _stamped(told, before),
        }
    )


def rejected(
    wanted: Wanted,
    owner: Owner,
    seen: Observed,
    before: Before,
    refusal: Obstacle,
) -> Status:
    """The status of a resource whose spec is not understood, or whose objects are not taken.

    What was applied before goes on, so what is seen of it is told as ever.
    """
    said: dict[ConditionType, Truth] = {
        ConditionType.ACCEPTED: "False",
        ConditionType.READY: "False",
        ConditionType.RECONCILING: "False",
        ConditionType.STALLED: "True",
    }
    status, _ = _seen(wanted, owner, seen, before)
    told = _instead(outlooks(wanted, owner, seen, is_late=False), said, refusal)
    return status.model_copy(update={"conditions": _stamped(told, before)})


def unavailable(
    wanted: Wanted,
    owner: Owner,
    seen: Observed,
    before: Before,
    trouble: Obstacle,
) -> Status:
    """The status of a resource whose objects an apiserver in trouble does not take.

    Whether they will be taken is not known, so ``Accepted`` stays as it was; and so does what is
    ``Stalled``, which nothing has moved.
    """
    kept = tuple(
        c
        for c in before.status.conditions
        if c.type is ConditionType.ACCEPTED
        or (c.type is ConditionType.STALLED and c.status == "True")
    )
    types = {c.type for c in kept}
    said: dict[ConditionType, Truth] = {
        ConditionType.ACCEPTED: "Unknown",  # of a resource of which nothing is known yet
        ConditionType.READY: "False",
        ConditionType.RECONCILING: "False" if ConditionType.STALLED in types else "True",
    }
    status, _ = _seen(wanted, owner, seen, before)
    told = _instead(outlooks(wanted, owner, seen, is_late=False), said, trouble)
    others = [each for each in told if each.type not in types]
    conditions = kept + _stamped(others, before)
    return status.model_copy(update={"conditions": conditions})


def _seen(wanted: Wanted, owner: Owner, seen: Observed, before: Before) -> tuple[Status, bool]:
    """What is counted, whatever becomes of the spec; and whether nothing has moved for too long."""
    old, now = before.status, before.now
    counts = {
        "replicas": seen.num_workers,
        "ready_replicas": seen.num_serving,
        "updated_replicas": seen.num_updated,
        "router_replicas": seen.num_routers,
    }
    has_moved = before.generation != old.observed_generation or any(
        count > getattr(old, name) for name, count in counts.items()
    )
    moved = None if has_moved else moment(old.last_progress_time)
    since = now if moved is None else min(moved, now)
    # A pod that ends has the whole of its grace period for it, which nothing can shorten.
    moved_last = max([since, *(t for p in seen.all_pods if (t := moment(pods.drains_until(p))))])
    status = old.model_copy(
        update={
            "observed_generation": before.generation,
            "url": owner.url,
            "workers": f"{seen.num_serving}/{wanted.replicas}",
            **counts,
            "last_progress_time": time_text(since),
            "selector": ",".join(f"{k}={v}" for k, v in sorted(owner.selector(WORKER).items())),
            "measured": seen.measured,
        }
    )
    return status, (now - moved_last).total_seconds() > before.progress_deadline_s


def _instead(
    outlook: Iterable[Outlook], said: Mapping[ConditionType, Truth], obstacle: Obstacle
) -> list[Outlook]:
    """The conditions, where some say what stands in the way and not what is seen."""
    return [
        Outlook(
            type=each.type,
            status=said[each.type],
            reason=obstacle.reason,
            message=obstacle.told,
        )
        if each.type in said
        else each
        for each in outlook
    ]


def _layouts(spec: Spec, plan: Plan | None) -> LayoutsInForce | None:
    layouts = layouts_of(spec)
    if layouts is None:
        return None if plan is None else LayoutsInForce(prefill=plan.prefill, decode=plan.decode)
    prefill, decode = layouts
    if spec.reshard == "Never":
        prefill = decode
    return LayoutsInForce(prefill=str(prefill), decode=str(decode))


def _stamped(outlook: Iterable[Outlook], before: Before) -> tuple[Condition, ...]:
    """Conditions with the time since when each has its status."""
    earlier = {c.type: c for c in before.status.conditions}
    now = time_text(before.now)
    return tuple(
        Condition(
            type=each.type,
            status=each.status,
            reason=each.reason,
            message=each.message,
            observed_generation=before.generation,
            last_transition_time=found.last_transition_time
            if (found := earlier.get(each.type)) is not None and found.status == each.status
            else now,
        )
        for each in outlook
    )
