"""What a SeesawDeployment's status says, from what there is in the cluster. Pure."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import (
    Condition,
    ConditionType,
    LayoutsInForce,
    Plan,
    Status,
)
from seesaw_operator.layouts import layouts_of
from seesaw_operator.names import Owner
from seesaw_operator.objects.router import num_routers
from seesaw_operator.objects.worker import COMPONENT as WORKER
from seesaw_operator.observed import TIME, Observed
from seesaw_operator.troubles import troubles

Truth = Literal["True", "False", "Unknown"]
_UP_TO_DATE = "UpToDate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One condition before it has a generation and a time."""

    type: ConditionType
    status: Truth
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The status as it was, and the time at which it is looked at again."""

    status: Status
    now: str
    progress_deadline_s: float


def status_of(spec: Spec, owner: Owner, generation: int, seen: Observed, before: Before) -> Status:
    """The whole status."""
    old, now = before.status, before.now
    counts = {
        "replicas": seen.num_workers,
        "ready_replicas": seen.num_serving,
        "updated_replicas": seen.num_updated,
        "router_replicas": seen.num_routers,
    }
    has_moved = generation != old.observed_generation or any(
        count > getattr(old, name) for name, count in counts.items()
    )
    progress_time = now if has_moved else old.last_progress_time or now
    waited_s = (_parsed(now) - _parsed(progress_time)).total_seconds()
    is_late = waited_s > before.progress_deadline_s
    return Status(
        observed_generation=generation,
        managed_by=old.managed_by,
        url=owner.url,
        workers=f"{seen.num_serving}/{spec.replicas}",
        **counts,
        last_progress_time=progress_time,
        selector=",".join(f"{k}={v}" for k, v in sorted(owner.selector(WORKER).items())),
        layouts=_layouts(spec, seen.plan),
        plan=seen.plan,
        measured=seen.measured,
        conditions=stamped(
            outlooks(spec, owner, seen, is_late=is_late), generation, old.conditions, now
        ),
    )


def is_at_rest(spec: Spec, seen: Observed) -> bool:
    """Whether nothing is under way that is wanted now; what a pause keeps back is not."""
    return _reconciling(spec, seen).status == "False"


def is_settled(spec: Spec, seen: Observed) -> bool:
    """Whether all workers that are wanted serve, and are as the latest spec wants them."""
    return _reconciling(spec, seen).reason == _UP_TO_DATE


def _layouts(spec: Spec, plan: Plan | None) -> LayoutsInForce | None:
    layouts = layouts_of(spec)
    if layouts is None:
        return None if plan is None else LayoutsInForce(prefill=plan.prefill, decode=plan.decode)
    prefill, decode = layouts
    if spec.reshard == "Never":
        prefill = decode
    return LayoutsInForce(prefill=str(prefill), decode=str(decode))


def rejected(reason: str, message: str, generation: int, old: Status, now: str) -> Status:
    """The status of a resource whose spec is not understood, or whose objects are not taken.

    What serves goes on as it was, so what is known of it stays.
    """
    said: dict[ConditionType, Truth] = {
        ConditionType.ACCEPTED: "False",
        ConditionType.READY: "False",
        ConditionType.RECONCILING: "False",
        ConditionType.STALLED: "True",
    }
    changed = [
        Outlook(type=kind, status=status, reason=reason, message=message)
        for kind, status in said.items()
    ]
    types = {c.type for c in changed}
    kept = tuple(c for c in old.conditions if c.type not in types)
    conditions = stamped(changed, generation, old.conditions, now) + kept
    return old.model_copy(update={"observed_generation": generation, "conditions": conditions})


def outlooks(spec: Spec, owner: Owner, seen: Observed, *, is_late: bool) -> list[Outlook]:
    """All conditions, from what is seen. ``is_late``: nothing has moved for too long.

    Source: kstatus, which takes the first that holds of ``Reconciling`` and ``Stalled``, so that
    what is stalled must not say that it is under way.
    """
    accepted = Outlook(
        type=ConditionType.ACCEPTED,
        status="True",
        reason="Valid",
        message="The spec is understood and its objects are applied.",
    )
    workers, router, degraded = _workers(spec, seen), _router(owner, seen), _degraded(spec, seen)
    reconciling = _reconciling(spec, seen)
    ready = _ready(spec, owner, degraded, reconciling)
    stalled = _stalled(degraded, reconciling, is_late=is_late)
    if stalled.status == "True":
        reconciling = replace(reconciling, status="False")
    return [
        accepted,
        workers,
        router,
        _available(spec, owner, seen, (degraded, workers, router)),
        ready,
        reconciling,
        stalled,
        degraded,
    ]


def _available(
    spec: Spec, owner: Owner, seen: Observed, others: tuple[Outlook, Outlook, Outlook]
) -> Outlook:
    """The endpoint serves as long as one router and one worker do; if not, the worst says why."""
    if seen.num_serving and seen.num_routers:
        return Outlook(
            type=ConditionType.AVAILABLE,
            status="True",
            reason="Serving",
            message=f"Serving at {owner.url}.",
        )
    degraded, workers, _ = others
    waits = workers
    if spec.replicas:
        waits = next(c for c in others if (c.status == "True") == (c is degraded))
    return Outlook(
        type=ConditionType.AVAILABLE, status="False", reason=waits.reason, message=waits.message
    )


def _ready(spec: Spec, owner: Owner, degraded: Outlook, reconciling: Outlook) -> Outlook:
    """Whether all is as the latest spec says and serves; if not, trouble says why, or what is
    under way."""
    if reconciling.reason != _UP_TO_DATE:
        waits = degraded if degraded.status == "True" else reconciling
        return Outlook(
            type=ConditionType.READY, status="False", reason=waits.reason, message=waits.message
        )
    if spec.replicas == 0:
        reason, message = "ScaledToZero", "No worker is wanted. Set spec.replicas to serve."
    else:
        reason, message = "Serving", f"Serving at {owner.url}."
    return Outlook(type=ConditionType.READY, status="True", reason=reason, message=message)


def _stalled(degraded: Outlook, reconciling: Outlook, *, is_late: bool) -> Outlook:
    if reconciling.status == "False" or not is_late:
        return Outlook(
            type=ConditionType.STALLED,
            status="False",
            reason="NotStalled",
            message="Nothing is to be done, or it is under way.",
        )
    waits = degraded if degraded.status == "True" else reconciling
    return Outlook(
        type=ConditionType.STALLED,
        status="True",
        reason="ProgressDeadlineExceeded",
        message=f"Nothing has moved for longer than the progress deadline: {waits.message}",
    )


def _workers(spec: Spec, seen: Observed) -> Outlook:
    serving, wanted = seen.num_serving, spec.replicas
    status: Truth = "True"
    if wanted == 0:
        reason, message = "ScaledToZero", "No worker is wanted. Set spec.replicas to serve."
    elif serving >= wanted:
        reason, message = "AllServe", f"{serving} of {wanted} workers serve."
    else:
        status, reason = "False", "NotAllServe"
        message = f"{serving} of {wanted} workers serve; the others start, load or drain."
    return Outlook(type=ConditionType.WORKERS_READY, status=status, reason=reason, message=message)


def _router(owner: Owner, seen: Observed) -> Outlook:
    serving = seen.num_routers
    return Outlook(
        type=ConditionType.ROUTER_READY,
        status="True" if serving else "False",
        reason="Serving" if serving else "NoneServes",
        message=f"{_counted(serving, 'router serves', 'routers serve')} {owner.url}."
        if serving
        else "No router serves yet; routers start within seconds.",
    )


def _reconciling(spec: Spec, seen: Observed) -> Outlook:
    num_routers_wanted = num_routers(spec)
    is_behind = seen.num_updated < spec.replicas
    status: Truth = "True"
    if not seen.is_counted or seen.num_workers != spec.replicas:
        reason = "Scaling"
        message = f"{seen.num_workers} of {spec.replicas} worker pods exist."
    elif is_behind and not spec.paused:
        reason = "RollingOut"
        message = (
            f"{seen.num_updated} of {spec.replicas} worker pods match the spec; one at a time goes."
        )
    elif seen.num_serving < spec.replicas:
        reason, message = "Starting", f"{seen.num_serving} of {spec.replicas} worker pods serve."
    elif spec.paused and (is_behind or not seen.are_routers_updated(num_routers_wanted)):
        status, reason = "False", "Paused"
        message = (
            f"{seen.num_updated} of {spec.replicas} worker pods match the spec; spec.paused keeps "
            "the others and the routers as they are."
        )
    elif not seen.is_router_rolled_out(num_routers_wanted):
        reason, message = "RollingOut", "The routers are being replaced, one at a time."
    else:
        status, reason = "False", _UP_TO_DATE
        message = "All pods match the spec and serve."
    return Outlook(type=ConditionType.RECONCILING, status=status, reason=reason, message=message)


def _degraded(spec: Spec, seen: Observed) -> Outlook:
    found = troubles(spec, seen)
    if not found:
        return Outlook(
            type=ConditionType.DEGRADED,
            status="False",
            reason="NoTrouble",
            message="Nothing that keeps a pod from serving is known.",
        )
    first, more = found[0], len(found) - 1
    return Outlook(
        type=ConditionType.DEGRADED,
        status="True",
        reason=first.reason,
        message=first.message
        + (f" ({_counted(more, 'more pod is', 'more pods are')} in trouble.)" if more else ""),
    )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def stamped(
    outlook: Iterable[Outlook], generation: int, old: Iterable[Condition], now: str
) -> tuple[Condition, ...]:
    """Conditions with the time since when each has its status."""
    before = {c.type: c for c in old}
    made = []
    for each in outlook:
        earlier = before.get(each.type)
        is_same = earlier is not None and earlier.status == each.status
        made.append(
            Condition(
                type=each.type,
                status=each.status,
                reason=each.reason,
                message=each.message,
                observed_generation=generation,
                last_transition_time=earlier.last_transition_time
                if earlier is not None and is_same
                else now,
            )
        )
    return tuple(made)


def _parsed(time: str) -> dt.datetime:
    return dt.datetime.strptime(time, TIME).replace(tzinfo=dt.UTC)
