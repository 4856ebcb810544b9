"""One idempotent, level-triggered reconcile: spec → objects → apply → status.

Whatever happened, it looks at what is wanted and at what there is, and takes the difference
away. It may be stopped after any call and run again from the start.
"""

import dataclasses
import datetime as dt
import logging
from typing import Any, Protocol

from pydantic import ValidationError

from seesaw_core.errors import InputError
from seesaw_operator import applying, claims, planning
from seesaw_operator.accepting import understood
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Condition, ConditionType, Measured, Plan, Status
from seesaw_operator.applying import Applier
from seesaw_operator.claims import Claims
from seesaw_operator.conditions import Before, is_at_rest, is_settled, rejected, status_of
from seesaw_operator.errors import RefusedError
from seesaw_operator.names import COMPONENT_LABEL, Owner
from seesaw_operator.objects.router import COMPONENT as ROUTER
from seesaw_operator.objects.worker import COMPONENT as WORKER
from seesaw_operator.observed import TIME, Observed, lacking
from seesaw_operator.plan import plan, timing_of
from seesaw_operator.profiles import Profiles
from seesaw_operator.settings import OperatorSettings
from seesaw_operator.store import Key, Object, Ref, Store

logger = logging.getLogger(__name__)


_TOLD = (
    ConditionType.ACCEPTED,
    ConditionType.AVAILABLE,
    ConditionType.STALLED,
    ConditionType.DEGRADED,
)
_LOOK_AGAIN_S = 10.0  # while something is under way: events of others are not watched
_WAITED_S = 5.0
_CLAIM_AGAIN_S = 60.0
_MOST_LOOKED_AT = 4


class Calls(applying.Writes, claims.Claiming, Protocol):
    """What reconciling does to a cluster, and asks it."""

    async def write_status(self, namespace: str, name: str, status: dict[str, Any]) -> bool: ...
    async def warning(self, namespace: str, kind: str, name: str) -> str | None: ...


class Measurements(Protocol):
    """What workers report."""

    def of(self, key: Key) -> Measured | None: ...
    def plan_of(self, key: Key) -> Plan | None: ...


class Reconciler:
    """Makes the cluster match one resource at a time."""

    def __init__(
        self,
        *,
        cluster: Calls,
        store: Store,
        measurements: Measurements,
        settings: OperatorSettings,
        profiles: Profiles,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._measurements = measurements
        self._settings = settings
        self._profiles = profiles
        self._applier = Applier(cluster, store)
        self._claims = Claims(cluster, settings.operator)

    async def reconcile(self, key: Key) -> float | None:
        """Make the cluster match the spec. Safe to run any number of times.

        Returns after how many seconds to look again, whatever happens; None if there is no need.
        """
        resource = self._store.resource(key)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            self._applier.forget(key)
            self._claims.forget(key)
            return None  # Kubernetes deletes what it owns
        if not await self._claims.hold(resource):
            return _CLAIM_AGAIN_S
        old = _old_status(resource).model_copy(update={"managed_by": self._settings.operator})
        generation = resource["metadata"]["generation"]
        clock = dt.datetime.now(dt.UTC)
        now = clock.strftime(TIME)
        try:
            spec = understood(resource["spec"], self._profiles)
        except InputError as error:
            status = rejected("InvalidSpec", str(error), generation, old, now)
            await self._tell(resource, old, status)
            return None
        owner = Owner(name=key.name, namespace=key.namespace, uid=resource["metadata"]["uid"])
        seen = self._observed(key, owner)
        told = self._measurements.plan_of(key)
        applied = planning.applied_workload(
            spec,
            told,
            planning.remembered(seen.stateful_set, old),
            is_settled=is_settled(spec, seen),
        )
        timing = timing_of(spec, self._settings.timing)
        made = plan(
            planning.with_workload(spec, applied),
            owner,
            self._settings.images,
            timing,
            has_routers=seen.has_routers,
        )
        planning.remember(made, applied)
        try:
            if not await self._applier.make(made, owner):
                self._store.drop_resource(key)  # its watch will say what there is, if anything
                self._applier.forget(key)
                return None
        except RefusedError as error:
            status = rejected("NotApplied", f"{error}.", generation, old, now)
            await self._tell(resource, old, status)
            raise  # it may be taken later: when the other object is gone, or the quota is raised
        seen = dataclasses.replace(
            self._observed(key, owner), plan=planning.plan_status(spec, told, applied, old)
        )
        if _waits(old, clock):
            seen = dataclasses.replace(seen, warnings=await self._warnings(key, spec, seen, clock))
        before = Before(status=old, now=now, progress_deadline_s=timing.progress_s)
        status = status_of(spec, owner, generation, seen, before)
        await self._tell(resource, old, status)
        return None if is_at_rest(spec, seen) else _LOOK_AGAIN_S

    async def _warnings(
        self, key: Key, spec: Spec, seen: Observed, now: dt.datetime
    ) -> dict[tuple[str, str], str]:
        """What Kubernetes has recorded about objects that should have come further."""
        found = {}
        for about in lacking(spec, seen, now)[:_MOST_LOOKED_AT]:
            warning = await self._cluster.warning(key.namespace, *about)
            if warning is not None:
                found[about] = warning
        return found

    def _observed(self, key: Key, owner: Owner) -> Observed:
        pods: dict[str, list[Object]] = {WORKER: [], ROUTER: []}
        for pod in self._store.children(key, "Pod"):
            component = pod["metadata"]["labels"].get(COMPONENT_LABEL)
            if component in pods:
                pods[component].append(pod)
        return Observed(
            stateful_set=self._store.child(Ref("StatefulSet", key.namespace, owner.worker)),
            router=self._store.child(Ref("Deployment", key.namespace, owner.router)),
            worker_pods=tuple(pods[WORKER]),
            router_pods=tuple(pods[ROUTER]),
            measured=self._measurements.of(key),
        )

    async def _tell(self, resource: Object, old: Status, status: Status) -> None:
        """Write the status if it says anything new, and record what has changed."""
        if status == old:
            return
        metadata = resource["metadata"]
        outside = status.model_dump(by_alias=True, exclude_none=True, mode="json")
        namespace, name = metadata["namespace"], metadata["name"]
        if not await self._cluster.write_status(namespace, name, outside):
            self._store.drop_resource(Key(namespace, name))
            return
        if self._store.resource(Key(namespace, name)) is resource:
            self._store.put_resource(resource | {"status": outside})
        before = {c.type: c for c in old.conditions}
        told: set[str] = set()
        for condition in status.conditions:
            if condition.message not in told and _is_news(condition, before.get(condition.type)):
                kind = "Warning" if _is_bad(condition) else "Normal"
                await self._cluster.record(
                    resource, kind, condition.reason, condition.message or condition.reason
                )
                told.add(condition.message)
        for reason, message in planning.news(old, status, resource):
            await self._cluster.record(resource, "Normal", reason, message)


def _waits(old: Status, now: dt.datetime) -> bool:
    """Whether nothing has come further since a while: what was made a moment ago takes one."""
    if old.last_progress_time is None:
        return False
    since = dt.datetime.fromisoformat(old.last_progress_time)
    return (now - since).total_seconds() > _WAITED_S


def _is_news(condition: Condition, before: Condition | None) -> bool:
    """Whether people would want to read of it. Ready follows from the others."""
    if condition.type not in _TOLD:
        return False
    if before is None:
        return condition.type is ConditionType.ACCEPTED or (
            _is_bad(condition) and condition.type is not ConditionType.AVAILABLE
        )
    return (before.status, before.reason) != (condition.status, condition.reason)


def _is_bad(condition: Condition) -> bool:
    is_abnormal = condition.type in (ConditionType.DEGRADED, ConditionType.STALLED)
    return condition.status == ("True" if is_abnormal else "False")


def _old_status(resource: Object) -> Status:
    """What was told last; nothing if another version of the operator told it otherwise."""
    try:
        return Status.model_validate(resource.get("status") or {})
    except ValidationError:
        return Status()
