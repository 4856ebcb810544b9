"""One idempotent, level-triggered reconcile: spec → objects → apply → status.

Whatever happened, it looks at what is wanted and at what there is, and takes the difference
away. It may be stopped after any call and run again from the start.
"""

import dataclasses
import datetime as dt
import logging
from typing import Any, Protocol

from pydantic import ValidationError

from seesaw_operator import applying, planning
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Condition, ConditionType, Measured, Plan, Status
from seesaw_operator.applying import Applier
from seesaw_operator.conditions import Observed, is_settled, rejected, status_of
from seesaw_operator.errors import RefusedError
from seesaw_operator.names import COMPONENT_LABEL, Owner
from seesaw_operator.objects.router import COMPONENT as ROUTER
from seesaw_operator.objects.worker import COMPONENT as WORKER
from seesaw_operator.plan import plan
from seesaw_operator.settings import OperatorSettings
from seesaw_operator.store import Key, Object, Ref, Store

logger = logging.getLogger(__name__)


class Writes(applying.Writes, Protocol):
    """What reconciling does to a cluster."""

    async def write_status(self, namespace: str, name: str, status: dict[str, Any]) -> bool: ...
    async def record(self, resource: Object, kind: str, reason: str, message: str) -> None: ...


class Measurements(Protocol):
    """What workers report."""

    def of(self, key: Key) -> Measured | None: ...
    def plan_of(self, key: Key) -> Plan | None: ...


class Reconciler:
    """Makes the cluster match one resource at a time."""

    def __init__(
        self,
        *,
        cluster: Writes,
        store: Store,
        measurements: Measurements,
        settings: OperatorSettings,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._measurements = measurements
        self._settings = settings
        self._applier = Applier(cluster, store)

    async def reconcile(self, key: Key) -> None:
        """Make the cluster match the spec. Safe to run any number of times."""
        resource = self._store.resource(key)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            return  # Kubernetes deletes what it owns
        old = _old_status(resource)
        generation = resource["metadata"]["generation"]
        now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            spec = Spec.model_validate(resource["spec"])
        except ValidationError as error:
            status = rejected("InvalidSpec", _told(error), generation, old, now)
            await self._tell(resource, old, status)
            return
        owner = Owner(name=key.name, namespace=key.namespace, uid=resource["metadata"]["uid"])
        seen = self._observed(key, owner)
        told = self._measurements.plan_of(key)
        applied = planning.applied_workload(
            spec,
            told,
            planning.remembered(seen.stateful_set, old),
            is_settled=is_settled(spec, seen),
        )
        settings = self._settings
        made = plan(planning.with_workload(spec, applied), owner, settings.images, settings.timing)
        planning.remember(made, applied)
        try:
            await self._applier.make(made, owner)
        except RefusedError as error:
            status = rejected("NotApplied", f"{error}.", generation, old, now)
            await self._tell(resource, old, status)
            raise  # it may be taken later: when the other object is gone, or the quota is raised
        seen = dataclasses.replace(
            self._observed(key, owner), plan=planning.plan_status(spec, told, applied, old)
        )
        status = status_of(spec, owner, generation, seen, old, now)
        await self._tell(resource, old, status)

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
        blamed = {c.reason for c in status.conditions if _is_cause(c)}
        for condition in status.conditions:
            if condition.type is ConditionType.READY and condition.reason in blamed:
                continue  # told already, with the same words
            if _is_news(condition, before.get(condition.type)):
                kind = "Warning" if _is_bad(condition) else "Normal"
                await self._cluster.record(
                    resource, kind, condition.reason, condition.message or condition.reason
                )
        for reason, message in planning.news(old, status, resource):
            await self._cluster.record(resource, "Normal", reason, message)


def _is_news(condition: Condition, before: Condition | None) -> bool:
    """Whether people would want to read of it: a change of Ready, Accepted or Degraded."""
    if condition.type not in (
        ConditionType.READY,
        ConditionType.ACCEPTED,
        ConditionType.DEGRADED,
    ):
        return False
    if before is None:
        is_bad = _is_bad(condition) and condition.type is not ConditionType.READY
        return is_bad or condition.type is ConditionType.ACCEPTED
    return (before.status, before.reason) != (condition.status, condition.reason)


def _is_bad(condition: Condition) -> bool:
    if condition.type is ConditionType.DEGRADED:
        return condition.status == "True"
    return condition.status == "False"


def _is_cause(condition: Condition) -> bool:
    return condition.type is not ConditionType.READY and _is_bad(condition)


def _old_status(resource: Object) -> Status:
    """What was told last; nothing if another version of the operator told it otherwise."""
    try:
        return Status.model_validate(resource.get("status") or {})
    except ValidationError:
        return Status()


def _told(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    return f"spec.{field}: {first['msg']} (got {first['input']!r}). Correct the field."
