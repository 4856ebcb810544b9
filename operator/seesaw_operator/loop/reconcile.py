"""One idempotent, level-triggered reconcile: spec → objects → apply → status.

A reconcile compares what is wanted with what exists and removes the difference, whatever happened
before. It may be stopped after any call and run again from the start.
"""

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Protocol

from seesaw_core.errors import InputError
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import ConditionType, Measured, Plan, read_status
from seesaw_operator.cluster.errors import RefusedError, UnavailableError
from seesaw_operator.cluster.store import Key, Object, Store
from seesaw_operator.components.all import COMPONENTS
from seesaw_operator.loop import applier, claims, reporting
from seesaw_operator.loop.applier import Applier
from seesaw_operator.loop.claims import Claims
from seesaw_operator.loop.reporting import Reporter
from seesaw_operator.names import WORKER, Owner
from seesaw_operator.objects.context import Context, timing_of
from seesaw_operator.objects.profiles import Profiles
from seesaw_operator.objects.validation import validated_spec
from seesaw_operator.settings import OperatorSettings
from seesaw_operator.status import layout_plans
from seesaw_operator.status.component import Component, desired_by, objects_of, observe
from seesaw_operator.status.condition_state import Cause
from seesaw_operator.status.conditions import is_at_rest, is_settled
from seesaw_operator.status.observed import (
    Desired,
    InvolvedObject,
    Observed,
    parsed_time,
    unexplained,
)
from seesaw_operator.status.resource_status import (
    StatusContext,
    rejected,
    status_of,
    unavailable,
)
from seesaw_operator.text import sanitized

_REQUEUE_S = 10.0  # while something is under way: Events about other objects are not watched
_REQUEUE_SOON_S = 2.5  # while it is still unknown why something is missing
_PATIENCE_S = 5.0
_PATIENCE_FOR_PODS_S = 2.0  # a StatefulSet creates pods at once, or records why it cannot
_CLAIM_AGAIN_S = 60.0
_BLIP_S = 7.0  # a failure of the apiserver that is over by then is not reported
_MAX_LOOKUPS = 4


class Calls(applier.Writes, claims.Claiming, reporting.StatusWriter, Protocol):
    """What reconciling needs of a cluster."""

    async def warning(self, namespace: str, kind: str, uid: str) -> str | None: ...


class Measurements(Protocol):
    """What workers report."""

    def of(self, key: Key) -> Measured | None: ...
    def plan_of(self, key: Key) -> Plan | None: ...
    def has_measured(self, key: Key) -> bool: ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One resource as it is when it is reconciled."""

    key: Key
    resource: Object
    context: StatusContext

    @property
    def owner(self) -> Owner:
        return self.context.owner


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
        components: Sequence[Component] = COMPONENTS,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._measurements = measurements
        self._settings = settings
        self._profiles = profiles
        self._components = components
        self._condition_types = {*ConditionType, *(each.condition_type for each in components)}
        self._applier = Applier(cluster, store)
        self._claims = Claims(cluster, settings.operator)
        self._reporter = Reporter(cluster, store, components)
        self._failing_since: dict[Key, dt.datetime] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Make the cluster match the spec. Safe to run any number of times.

        Returns after how many seconds to reconcile again even if nothing changes; None if there is
        no need to.
        """
        resource = self._store.resource(key)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            self._applier.forget(key)
            self._claims.forget(key)
            self._reporter.forget(key)
            self._failing_since.pop(key, None)
            return None  # Kubernetes deletes the objects that the resource owns
        try:
            requeue_s = await self._reconcile(self._request(key, resource))
        except UnavailableError as error:
            await self._report_unavailable(self._request(key, resource), error)
            raise
        except RefusedError:
            self._failing_since.pop(key, None)
            raise
        self._failing_since.pop(key, None)
        self._reporter.forget(key)
        return requeue_s

    def _request(self, key: Key, resource: Object) -> _Request:
        metadata = resource["metadata"]
        previous = read_status(resource.get("status"), self._condition_types)
        return _Request(
            key=key,
            resource=resource,
            context=StatusContext(
                components=self._components,
                owner=Owner(name=key.name, namespace=key.namespace, uid=metadata["uid"]),
                previous=previous.model_copy(update={"managed_by": self._settings.operator}),
                generation=metadata["generation"],
                now=dt.datetime.now(dt.UTC),
                progress_deadline_s=self._settings.timing.progress_s,
            ),
        )

    async def _reconcile(self, request: _Request) -> float | None:
        try:
            is_ours = await self._claims.hold(request.resource)
        except RefusedError as error:
            await self._reporter.warn(
                request.key, request.resource, "StatusNotWritten", f"{error}."
            )
            raise
        if not is_ours:
            return _CLAIM_AGAIN_S
        try:
            spec = validated_spec(request.resource["spec"], self._profiles)
        except InputError as error:
            refusal = Cause(reason="InvalidSpec", message=str(error))
            return await self._report_refusal(request, self._one_of_each(), refusal)
        desired, observed = desired_by(self._components, spec), self._observed(request)
        plan = self._measurements.plan_of(request.key)
        observed = dataclasses.replace(observed, plan=plan)
        build = self._build_context(request, spec, desired, observed)
        try:
            manifests = objects_of(self._components, build, observed)
            if not await self._applier.apply_all(manifests, request.owner):
                return self._owner_is_gone(request)
        except RefusedError as error:
            refusal = Cause(reason="NotApplied", message=f"{error}.")
            await self._report_refusal(request, desired, refusal)
            raise  # it may be accepted later: when the other object is gone, or the quota is raised
        observed = await self._with_warnings(request, desired)
        previous = request.context.previous
        shown = layout_plans.plan_status(spec, plan, build.applied, previous)
        context = dataclasses.replace(request.context, progress_deadline_s=build.timing.progress_s)
        status = status_of(context, spec, dataclasses.replace(observed, plan=shown))
        await self._reporter.report(request.resource, previous, status)
        return self._requeue_s(request, desired, observed)

    def _build_context(
        self, request: _Request, spec: Spec, desired: Desired, observed: Observed
    ) -> Context:
        applied = layout_plans.applied_workload(
            spec,
            observed.plan,
            layout_plans.recorded_workload(
                observed.components[WORKER].body, request.context.previous
            ),
            is_settled=is_settled(self._components, desired, observed),
        )
        return Context(
            spec=layout_plans.with_workload(spec, applied),
            owner=request.owner,
            images=self._settings.images,
            timing=timing_of(spec, self._settings.timing),
            applied=applied,
        )

    def _owner_is_gone(self, request: _Request) -> float | None:
        """Forget a resource that was deleted. Reconcile at once if it has been created again."""
        self._store.drop_resource(request.key, request.owner.uid)
        self._applier.forget(request.key)
        return None if self._store.resource(request.key) is None else 0.0

    def _requeue_s(self, request: _Request, desired: Desired, observed: Observed) -> float | None:
        """Return when to reconcile again. Events are not watched, so they are looked up."""
        if is_at_rest(self._components, desired, observed):
            return None
        involved = unexplained(desired, observed, request.context.now)
        is_soon = any(self._is_too_early(request, each) for each in involved)
        return _REQUEUE_SOON_S if is_soon else _REQUEUE_S

    async def _report_refusal(
        self, request: _Request, desired: Desired, refusal: Cause
    ) -> float | None:
        """Report a refusal, and the state of what was applied before."""
        in_force = desired.in_force(self._observed(request))
        observed = await self._with_warnings(request, in_force)
        status = rejected(request.context, in_force, observed, refusal)
        await self._reporter.report(request.resource, request.context.previous, status)
        is_idle = observed.components[WORKER].body is None or is_at_rest(
            self._components, in_force, observed
        )
        return None if is_idle else _REQUEUE_S

    async def _report_unavailable(self, request: _Request, error: UnavailableError) -> None:
        """Report an apiserver that has failed for a while, as far as it accepts a report."""
        now = request.context.now
        began = self._failing_since.setdefault(request.key, now)
        if (now - began).total_seconds() < _BLIP_S:
            return
        message = f"The apiserver fails to do what it is asked, and is asked again: {error}."
        trouble = Cause(reason="ApiUnavailable", message=sanitized(message))
        await self._reporter.warn(request.key, request.resource, trouble.reason, trouble.message)
        if (request.resource.get("status") or {}).get("managedBy") != self._settings.operator:
            return
        try:
            spec = validated_spec(request.resource["spec"], self._profiles)
            desired = desired_by(self._components, spec)
        except InputError:
            desired = self._one_of_each()
        observed = self._observed(request)
        status = unavailable(request.context, desired.in_force(observed), observed, trouble)
        with contextlib.suppress(UnavailableError):  # the first error is raised by the caller
            await self._reporter.report(request.resource, request.context.previous, status)

    async def _with_warnings(self, request: _Request, desired: Desired) -> Observed:
        """Return what exists, and why what is missing has not come, unless it is merely new."""
        observed = self._observed(request)
        warnings = {}
        involved = unexplained(desired, observed, request.context.now)
        for each in involved[:_MAX_LOOKUPS]:
            if self._is_too_early(request, each):
                continue
            warning = await self._cluster.warning(request.key.namespace, each.kind, each.uid)
            if warning is not None:
                warnings[each.uid] = warning
        return dataclasses.replace(observed, warnings=warnings)

    def _is_too_early(self, request: _Request, involved: InvolvedObject) -> bool:
        """Whether what is missing may still come by itself; never if the resource is degraded."""
        previous = request.context.previous
        if any(
            condition.type == ConditionType.DEGRADED and condition.status == "True"
            for condition in previous.conditions
        ):
            return False
        moved = parsed_time(previous.last_progress_time)
        patience_s = _PATIENCE_FOR_PODS_S if involved.kind == "StatefulSet" else _PATIENCE_S
        return moved is None or (request.context.now - moved).total_seconds() <= patience_s

    def _observed(self, request: _Request) -> Observed:
        """Return what exists. Until an operator that has just started measures, what the status
        shows is what was measured last."""
        key, measured = request.key, request.context.previous.measured
        if self._measurements.has_measured(key):
            measured = self._measurements.of(key)
        return observe(self._components, self._store, key, measured)

    def _one_of_each(self) -> Desired:
        """Return what to assume where no spec can be read."""
        return Desired(num_pods={component.name: 1 for component in self._components})
