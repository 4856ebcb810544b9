"""What a SeesawDeployment's status says, from what there is in the cluster. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from seesaw_operator import pods
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import (
    Condition,
    ConditionType,
    LayoutsInForce,
    Measured,
    Plan,
    Status,
)
from seesaw_operator.layouts import layouts_of
from seesaw_operator.names import Owner
from seesaw_operator.objects.worker import COMPONENT as WORKER

Truth = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What there is in the cluster for one resource, and what its workers report."""

    stateful_set: dict[str, Any] | None
    router: dict[str, Any] | None
    worker_pods: tuple[pods.Pod, ...]
    router_pods: tuple[pods.Pod, ...]
    measured: Measured | None
    plan: Plan | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """One condition before it has a generation and a time."""

    type: ConditionType
    status: Truth
    reason: str
    message: str


def status_of(
    spec: Spec, owner: Owner, generation: int, seen: Observed, old: Status, now: str
) -> Status:
    """The whole status. ``now`` goes into conditions that have changed since ``old``."""
    selector = owner.selector(WORKER)
    counts = (seen.stateful_set or {}).get("status", {})
    return Status(
        observed_generation=generation,
        url=owner.url,
        replicas=counts.get("replicas", 0),
        ready_replicas=sum(pods.is_ready(p) for p in seen.worker_pods),
        updated_replicas=counts.get("updatedReplicas", 0),
        router_replicas=sum(pods.is_ready(p) for p in seen.router_pods),
        selector=",".join(f"{k}={v}" for k, v in sorted(selector.items())),
        layouts=_layouts(spec, seen.plan),
        plan=seen.plan,
        measured=seen.measured,
        conditions=stamped(outlooks(spec, owner, seen), generation, old.conditions, now),
    )


def is_settled(spec: Spec, seen: Observed) -> bool:
    """Whether all workers that are wanted serve, and are as the latest spec wants them."""
    ready = sum(map(pods.is_ready, seen.worker_pods))
    return ready == spec.replicas and _progressing(spec, seen).status == "False"


def _layouts(spec: Spec, plan: Plan | None) -> LayoutsInForce | None:
    layouts = layouts_of(spec)
    if layouts is None:
        return None if plan is None else LayoutsInForce(prefill=plan.prefill, decode=plan.decode)
    prefill, decode = layouts
    if spec.reshard == "never":
        prefill = decode
    return LayoutsInForce(prefill=str(prefill), decode=str(decode))


def rejected(reason: str, message: str, generation: int, old: Status, now: str) -> Status:
    """The status of a resource whose spec is not understood, or whose objects are not taken.

    What serves goes on as it was, so what is known of it stays.
    """
    accepted = Outlook(type=ConditionType.ACCEPTED, status="False", reason=reason, message=message)
    changed = [accepted]
    if not any(c.type is ConditionType.READY and c.status == "True" for c in old.conditions):
        ready = Outlook(type=ConditionType.READY, status="False", reason=reason, message=message)
        changed.append(ready)
    types = {c.type for c in changed}
    kept = tuple(c for c in old.conditions if c.type not in types)
    conditions = stamped(changed, generation, old.conditions, now) + kept
    return old.model_copy(update={"observed_generation": generation, "conditions": conditions})


def outlooks(spec: Spec, owner: Owner, seen: Observed) -> list[Outlook]:
    """All conditions, from what is seen."""
    workers, router = _workers(spec, seen), _router(owner, seen)
    progressing, degraded = _progressing(spec, seen), _degraded(seen)
    ready = _ready(owner, seen, degraded, workers, router)
    accepted = Outlook(
        type=ConditionType.ACCEPTED,
        status="True",
        reason="Valid",
        message="The spec is understood and its objects are applied.",
    )
    return [accepted, workers, router, progressing, ready, degraded]


def _ready(
    owner: Owner, seen: Observed, degraded: Outlook, workers: Outlook, router: Outlook
) -> Outlook:
    """The endpoint serves as long as one router and one worker do; if not, the worst says why."""
    if any(map(pods.is_ready, seen.worker_pods)) and any(map(pods.is_ready, seen.router_pods)):
        return Outlook(
            type=ConditionType.READY,
            status="True",
            reason="Serving",
            message=f"Serving at {owner.url}.",
        )
    waits = next(c for c in (degraded, workers, router) if (c.status == "True") == (c is degraded))
    return Outlook(
        type=ConditionType.READY, status="False", reason=waits.reason, message=waits.message
    )


def _workers(spec: Spec, seen: Observed) -> Outlook:
    ready, wanted = sum(map(pods.is_ready, seen.worker_pods)), spec.replicas
    status: Truth = "True"
    if wanted == 0:
        status, reason = "False", "ScaledToZero"
        message = "No worker is wanted. Set spec.replicas to serve."
    elif ready >= wanted:
        reason, message = "AllServe", f"{ready} of {wanted} workers serve."
    else:
        status, reason = "False", "NotAllServe"
        message = f"{ready} of {wanted} workers serve; the others start, load or drain."
    return Outlook(type=ConditionType.WORKERS_READY, status=status, reason=reason, message=message)


def _router(owner: Owner, seen: Observed) -> Outlook:
    ready = sum(map(pods.is_ready, seen.router_pods))
    return Outlook(
        type=ConditionType.ROUTER_READY,
        status="True" if ready else "False",
        reason="Serving" if ready else "NoneServes",
        message=f"{_counted(ready, 'router serves', 'routers serve')} {owner.url}."
        if ready
        else "No router serves yet; routers start within seconds.",
    )


def _progressing(spec: Spec, seen: Observed) -> Outlook:
    counts = (seen.stateful_set or {}).get("status", {})
    current = (seen.stateful_set or {}).get("metadata", {}).get("generation")
    is_known = current is not None and counts.get("observedGeneration") == current
    replicas, updated = counts.get("replicas", 0), counts.get("updatedReplicas", 0)
    if not is_known or replicas != spec.replicas:
        reason = "Scaling"
        message = f"{replicas} of {spec.replicas} worker pods exist."
    elif updated < spec.replicas:
        reason = "RollingOut"
        message = f"{updated} of {spec.replicas} worker pods match the spec; one at a time goes."
    elif (ready := sum(map(pods.is_ready, seen.worker_pods))) < spec.replicas:
        reason, message = "Starting", f"{ready} of {spec.replicas} worker pods serve."
    elif not _is_rolled_out(seen.router, spec.router.replicas):
        reason, message = "RollingOut", "The routers are being replaced, one at a time."
    else:
        return Outlook(
            type=ConditionType.PROGRESSING,
            status="False",
            reason="UpToDate",
            message="All pods match the spec and serve.",
        )
    return Outlook(type=ConditionType.PROGRESSING, status="True", reason=reason, message=message)


def _is_rolled_out(deployment: dict[str, Any] | None, replicas: int) -> bool:
    if deployment is None:
        return False
    status = deployment.get("status", {})
    counts = [status.get(f"{kind}Replicas", 0) for kind in ("updated", "available")]
    is_known = status.get("observedGeneration") == deployment["metadata"].get("generation")
    return is_known and counts == [replicas, replicas] and status.get("replicas") == replicas


def _degraded(seen: Observed) -> Outlook:
    troubles = [*_troubles(seen.worker_pods), *_troubles(seen.router_pods)]  # the larger first
    if not troubles:
        return Outlook(
            type=ConditionType.DEGRADED,
            status="False",
            reason="NoTrouble",
            message="No pod is in trouble.",
        )
    first, more = troubles[0], len(troubles) - 1
    return Outlook(
        type=ConditionType.DEGRADED,
        status="True",
        reason=first.reason,
        message=first.message
        + (f" ({_counted(more, 'more pod is', 'more pods are')} in trouble.)" if more else ""),
    )


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _troubles(all_pods: Iterable[pods.Pod]) -> list[pods.Trouble]:
    in_order = sorted(all_pods, key=lambda p: str(p["metadata"]["name"]))
    return [t for p in in_order if (t := pods.trouble(p)) is not None]


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
