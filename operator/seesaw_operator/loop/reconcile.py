"""One idempotent, level-triggered reconcile: spec → objects → apply → status.

Whatever happened, it looks at what is wanted and at what there is, and takes the difference
away. It may be stopped after any call and run again from the start.
"""

import contextlib
import dataclasses
import datetime as dt
from typing import Protocol

from seesaw_core.errors import InputError
from seesaw_operator.api.status import ConditionType, Measured, Plan, read_status
from seesaw_operator.cluster.errors import RefusedError, UnavailableError
from seesaw_operator.cluster.store import Key, Object, Ref, Store
from seesaw_operator.loop import applier, claims, reporting
from seesaw_operator.loop.applier import Applier
from seesaw_operator.loop.claims import Claims
from seesaw_operator.loop.reporting import Teller
from seesaw_operator.names import Owner
from seesaw_operator.objects.all import plan, timing_of
from seesaw_operator.objects.profiles import Profiles
from seesaw_operator.objects.validation import understood
from seesaw_operator.settings import OperatorSettings
from seesaw_operator.status import layout_plans
from seesaw_operator.status.conditions import is_at_rest, is_settled
from seesaw_operator.status.observed import (
    Observed,
    Subject,
    Wanted,
    lacking,
    moment,
    router_pods,
    wanted_by,
    worker_pods,
)
from seesaw_operator.status.resource_status import (
    Before,
    Obstacle,
    rejected,
    status_of,
    unavailable,
)

_LOOK_AGAIN_S = 10.0  # while something is under way: events of others are not watched
_LOOK_SOON_S = 2.5  # while it is not known yet why something is missing
_WAITED_S = 5.0
_WAITED_FOR_PODS_S = 2.0  # a StatefulSet makes pods at once, or says why it cannot
_OTHERS = ("Service", "ServiceAccount", "PodDisruptionBudget", "Role", "RoleBinding")
_CLAIM_AGAIN_S = 60.0
_BLIP_S = 7.0  # what the apiserver is over with by then is told to nobody
_MOST_LOOKED_AT = 4
_ONE = Wanted(replicas=1, routers=1)  # where no spec can be read


class Calls(applier.Writes, claims.Claiming, reporting.Telling, Protocol):
    """What reconciling does to a cluster, and asks it."""

    async def warning(self, namespace: str, kind: str, uid: str) -> str | None: ...


class Measurements(Protocol):
    """What workers report."""

    def of(self, key: Key) -> Measured | None: ...
    def plan_of(self, key: Key) -> Plan | None: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """One look at one resource: as it is then, and what was told of it."""

    key: Key
    resource: Object
    owner: Owner
    before: Before


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
        self._teller = Teller(cluster, store)
        self._fails_since: dict[Key, dt.datetime] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Make the cluster match the spec. Safe to run any number of times.

        Returns after how many seconds to look again, whatever happens; None if there is no need.
        """
        resource = self._store.resource(key)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            self._applier.forget(key)
            self._claims.forget(key)
            self._teller.forget(key)
            self._fails_since.pop(key, None)
            return None  # Kubernetes deletes what it owns
        try:
            again_s = await self._look(self._round(key, resource))
        except UnavailableError as error:
            await self._tell_unavailable(self._round(key, resource), error)
            raise
        except RefusedError:
            self._fails_since.pop(key, None)
            raise
        self._fails_since.pop(key, None)
        self._teller.forget(key)
        return again_s

    def _round(self, key: Key, resource: Object) -> _Round:
        metadata = resource["metadata"]
        old = read_status(resource.get("status"))
        return _Round(
            key=key,
            resource=resource,
            owner=Owner(name=key.name, namespace=key.namespace, uid=metadata["uid"]),
            before=Before(
                status=old.model_copy(update={"managed_by": self._settings.operator}),
                generation=metadata["generation"],
                now=dt.datetime.now(dt.UTC),
                progress_deadline_s=self._settings.timing.progress_s,
            ),
        )

    async def _look(self, this: _Round) -> float | None:
        try:
            is_ours = await self._claims.hold(this.resource)
        except RefusedError as error:
            await self._teller.warn(this.key, this.resource, "StatusNotWritten", f"{error}.")
            raise
        if not is_ours:
            return _CLAIM_AGAIN_S
        try:
            spec = understood(this.resource["spec"], self._profiles)
        except InputError as error:
            refusal = Obstacle(reason="InvalidSpec", message=str(error))
            return await self._refuse(this, _ONE, refusal)
        key, owner, old, wanted = this.key, this.owner, this.before.status, wanted_by(spec)
        seen = self._observed(key, owner)
        told = self._measurements.plan_of(key)
        applied = layout_plans.applied_workload(
            spec,
            told,
            layout_plans.remembered(seen.stateful_set, old),
            is_settled=is_settled(wanted, seen),
        )
        timing = timing_of(spec, self._settings.timing)
        made = plan(
            layout_plans.with_workload(spec, applied),
            owner,
            self._settings.images,
            timing,
            has_routers=seen.has_routers,
        )
        layout_plans.remember(made, applied)
        try:
            if not await self._applier.make(made, owner):
                self._store.drop_resource(key, owner.uid)
                self._applier.forget(key)
                return None if self._store.resource(key) is None else 0.0  # made anew
        except RefusedError as error:
            await self._refuse(this, wanted, Obstacle(reason="NotApplied", message=f"{error}."))
            raise  # it may be taken later: when the other object is gone, or the quota is raised
        seen = await self._seen(this, wanted)
        seen = dataclasses.replace(seen, plan=layout_plans.plan_status(spec, told, applied, old))
        before = dataclasses.replace(this.before, progress_deadline_s=timing.progress_s)
        status = status_of(spec, owner, seen, before)
        await self._teller.tell(this.resource, old, status)
        return self._again_s(this, wanted, seen)

    def _again_s(self, this: _Round, wanted: Wanted, seen: Observed) -> float | None:
        """When to look again. Events are not watched, so why pods are missing is asked."""
        if is_at_rest(wanted, seen):
            return None
        about = lacking(wanted, seen, this.before.now)
        is_soon = any(self._is_too_soon(this, each) for each in about)
        return _LOOK_SOON_S if is_soon else _LOOK_AGAIN_S

    async def _refuse(self, this: _Round, wanted: Wanted, refusal: Obstacle) -> float | None:
        """Tell of a refusal, and of what is seen all the same."""
        in_force = self._observed(this.key, this.owner).in_force(wanted)
        seen = await self._seen(this, in_force)
        status = rejected(in_force, this.owner, seen, this.before, refusal)
        await self._teller.tell(this.resource, this.before.status, status)
        is_idle = seen.stateful_set is None or is_at_rest(in_force, seen)
        return None if is_idle else _LOOK_AGAIN_S

    async def _tell_unavailable(self, this: _Round, error: UnavailableError) -> None:
        """Tell of an apiserver that has been in trouble for a while, as far as it can be told."""
        now = this.before.now
        if (now - self._fails_since.setdefault(this.key, now)).total_seconds() < _BLIP_S:
            return
        said = f"The apiserver does not do what it is asked, and is asked again: {error}."
        trouble = Obstacle(reason="ApiUnavailable", message=said)
        await self._teller.warn(this.key, this.resource, trouble.reason, trouble.told)
        if (this.resource.get("status") or {}).get("managedBy") != self._settings.operator:
            return
        try:
            wanted = wanted_by(understood(this.resource["spec"], self._profiles))
        except InputError:
            wanted = _ONE
        seen = self._observed(this.key, this.owner)
        status = unavailable(seen.in_force(wanted), this.owner, seen, this.before, trouble)
        with contextlib.suppress(UnavailableError):  # the first one says it all
            await self._teller.tell(this.resource, this.before.status, status)

    async def _seen(self, this: _Round, wanted: Wanted) -> Observed:
        """What there is, and why it has not come further if it has not since a while: what was
        made a moment ago takes one."""
        seen = self._observed(this.key, this.owner)
        found = {}
        for about in lacking(wanted, seen, this.before.now)[:_MOST_LOOKED_AT]:
            if self._is_too_soon(this, about):
                continue
            said = await self._cluster.warning(this.key.namespace, about.kind, about.uid)
            if said is not None:
                found[about.uid] = said
        return dataclasses.replace(seen, warnings=found)

    def _is_too_soon(self, this: _Round, about: Subject) -> bool:
        """Whether what is missing may still come by itself; not if it was in trouble before."""
        if any(
            c.type is ConditionType.DEGRADED and c.status == "True"
            for c in this.before.status.conditions
        ):
            return False
        moved = moment(this.before.status.last_progress_time)
        waits_s = _WAITED_FOR_PODS_S if about.kind == "StatefulSet" else _WAITED_S
        return moved is None or (this.before.now - moved).total_seconds() <= waits_s

    def _observed(self, key: Key, owner: Owner) -> Observed:
        return Observed(
            stateful_set=self._store.child(Ref("StatefulSet", key.namespace, owner.worker)),
            router=self._store.child(Ref("Deployment", key.namespace, owner.router)),
            worker_pods=tuple(worker_pods(self._store, key)),
            router_pods=tuple(router_pods(self._store, key, owner.router)),
            others=tuple(body for kind in _OTHERS for body in self._store.children(key, kind)),
            measured=self._measurements.of(key),
        )
