"""Each condition of a SeesawDeployment, from what is wanted and what is seen. Pure.

What stands in the way of a spec itself is not seen from here.
"""

from dataclasses import dataclass, replace
from typing import Literal

from seesaw_operator.api.status import ConditionType
from seesaw_operator.names import Owner
from seesaw_operator.status.observed import Observed, Wanted
from seesaw_operator.status.troubles import troubles
from seesaw_operator.text import quoted

Truth = Literal["True", "False", "Unknown"]
_UP_TO_DATE = "UpToDate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One condition before it has a generation and a time."""

    type: ConditionType
    status: Truth
    reason: str
    message: str


def is_at_rest(wanted: Wanted, seen: Observed) -> bool:
    """Whether nothing is under way that is wanted now; what a pause keeps back is not."""
    return _reconciling(wanted, seen).status == "False"


def is_settled(wanted: Wanted, seen: Observed) -> bool:
    """Whether all workers that are wanted serve, and are as the latest spec wants them."""
    return _reconciling(wanted, seen).reason == _UP_TO_DATE


def outlooks(wanted: Wanted, owner: Owner, seen: Observed, *, is_late: bool) -> list[Outlook]:
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
    workers, router, degraded = (
        _workers(wanted, seen),
        _router(wanted, owner, seen),
        _degraded(wanted, seen),
    )
    reconciling = _reconciling(wanted, seen)
    ready = _ready(wanted, owner, degraded, reconciling)
    stalled = _stalled(degraded, reconciling, is_late=is_late)
    if stalled.status == "True":
        reconciling = replace(
            reconciling, status="False", reason=stalled.reason, message=stalled.message
        )
    return [
        accepted,
        workers,
        router,
        _available(wanted, owner, seen, (degraded, workers, router)),
        ready,
        reconciling,
        stalled,
        degraded,
    ]


def _available(
    wanted: Wanted, owner: Owner, seen: Observed, others: tuple[Outlook, Outlook, Outlook]
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
    if wanted.replicas:
        waits = next(c for c in others if (c.status == "True") == (c is degraded))
    return Outlook(
        type=ConditionType.AVAILABLE, status="False", reason=waits.reason, message=waits.message
    )


def _ready(wanted: Wanted, owner: Owner, degraded: Outlook, reconciling: Outlook) -> Outlook:
    """Whether all is as the latest spec says and serves; if not, trouble says why, or what is
    under way."""
    if reconciling.reason != _UP_TO_DATE:
        waits = degraded if degraded.status == "True" else reconciling
        return Outlook(
            type=ConditionType.READY, status="False", reason=waits.reason, message=waits.message
        )
    if wanted.replicas == 0:
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
            message="Nothing is to be done, or something has moved within the progress deadline.",
        )
    waits = degraded if degraded.status == "True" else reconciling
    return Outlook(
        type=ConditionType.STALLED,
        status="True",
        reason="ProgressDeadlineExceeded",
        message=f"Nothing has moved for longer than the progress deadline: {waits.message}",
    )


def _workers(wanted: Wanted, seen: Observed) -> Outlook:
    serving, replicas = seen.num_serving, wanted.replicas
    status: Truth = "True"
    if replicas == 0:
        reason, message = "ScaledToZero", "No worker is wanted. Set spec.replicas to serve."
    elif serving >= replicas:
        reason, message = "AllServe", f"{serving} of {replicas} workers serve."
    else:
        status, reason = "False", "NotAllServe"
        rest = "the others start, load or drain" if seen.worker_pods else "there are no pods"
        message = f"{serving} of {replicas} workers serve; {rest}."
    return Outlook(type=ConditionType.WORKERS_READY, status=status, reason=reason, message=message)


def _router(wanted: Wanted, owner: Owner, seen: Observed) -> Outlook:
    serving = seen.num_routers
    if not serving and not wanted.routers and not wanted.replicas:
        return Outlook(
            type=ConditionType.ROUTER_READY,
            status="False",
            reason="ScaledToZero",
            message="No router is wanted, since no worker is.",
        )
    rest = "routers start within seconds" if seen.router_pods else "there are no pods"
    return Outlook(
        type=ConditionType.ROUTER_READY,
        status="True" if serving else "False",
        reason="Serving" if serving else "NoneServes",
        message=f"{_counted(serving, 'router serves', 'routers serve')} {owner.url}."
        if serving
        else f"No router serves yet; {rest}.",
    )


def _reconciling(wanted: Wanted, seen: Observed) -> Outlook:
    is_behind = seen.num_updated < wanted.replicas
    matching = f"{seen.num_updated} of {wanted.replicas} worker pods match the spec"
    status: Truth = "True"
    if going := _going(seen):
        reason, message = "Deleting", going
    elif not seen.is_counted or seen.num_workers != wanted.replicas:
        reason = "Scaling"
        message = f"{seen.num_workers} of {wanted.replicas} worker pods exist{_draining(seen)}."
    elif is_behind and not wanted.is_paused:
        reason = "RollingOut"
        message = f"{matching}; one at a time goes."
    elif seen.num_serving < wanted.replicas:
        reason, message = "Starting", f"{seen.num_serving} of {wanted.replicas} worker pods serve."
    elif wanted.is_paused and (is_behind or not seen.are_routers_updated(wanted.routers)):
        status, reason = "False", "Paused"
        message = f"{matching}; spec.paused keeps the others and the routers as they are."
    elif not seen.is_router_rolled_out(wanted.routers):
        reason, message = "RollingOut", "The routers are being replaced, one at a time."
    else:
        status, reason = "False", _UP_TO_DATE
        message = "All pods match the spec and serve."
    return Outlook(type=ConditionType.RECONCILING, status=status, reason=reason, message=message)


def _draining(seen: Observed) -> str:
    return f", {_counted(seen.num_draining, 'drains', 'drain')}" if seen.num_draining else ""


def _going(seen: Observed) -> str:
    """Which of ours is being deleted, and so cannot be made as it should be."""
    for body in (seen.stateful_set, seen.router, *seen.others):
        if body is None or "deletionTimestamp" not in body["metadata"]:
            continue
        metadata = body["metadata"]
        waits = quoted(", ".join(metadata.get("finalizers") or ()))
        return (
            f"{body['kind']} {metadata['name']} is being deleted, and is made anew once it is gone"
            + (f"; it waits for the finalizers {waits}." if waits else ".")
        )
    return ""


def _degraded(wanted: Wanted, seen: Observed) -> Outlook:
    found = troubles(wanted, seen)
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
