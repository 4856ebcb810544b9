"""What there is in the cluster for one resource, as plain facts. Pure."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Measured, Plan
from seesaw_operator.cluster.store import Key, Ref, Store
from seesaw_operator.names import COMPONENT_LABEL, worker_name
from seesaw_operator.objects.router import COMPONENT as ROUTER
from seesaw_operator.objects.router import num_routers
from seesaw_operator.objects.worker import COMPONENT as WORKER
from seesaw_operator.status import pods


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How many pods there should be, and whether those that are there are to stay as they are."""

    replicas: int
    routers: int
    is_paused: bool = False


def wanted_by(spec: Spec) -> Wanted:
    """What a spec asks for."""
    return Wanted(replicas=spec.replicas, routers=num_routers(spec), is_paused=spec.paused)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An object of which Kubernetes may have recorded why it does not come further."""

    kind: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One resource's objects, and what its workers report.

    others: further objects that were made for it, such as Services.
    warnings: what Kubernetes recorded last about an object, by its uid, if that is a warning; only
    of objects that have been looked at because something is missing.
    """

    stateful_set: dict[str, Any] | None
    router: dict[str, Any] | None
    worker_pods: tuple[pods.Pod, ...]
    router_pods: tuple[pods.Pod, ...]
    measured: Measured | None
    others: tuple[dict[str, Any], ...] = ()
    plan: Plan | None = None
    warnings: Mapping[str, str] = field(default_factory=dict)

    def in_force(self, wanted: Wanted) -> Wanted:
        """How many pods were asked for last, where what is wanted now could not be applied."""
        workers, routers = self.stateful_set, self.router
        return Wanted(
            replicas=wanted.replicas if workers is None else workers["spec"]["replicas"],
            routers=wanted.routers if routers is None else routers["spec"]["replicas"],
            is_paused=wanted.is_paused,
        )

    @property
    def all_pods(self) -> tuple[pods.Pod, ...]:
        return *self.worker_pods, *self.router_pods

    @property
    def num_draining(self) -> int:
        """Worker pods that end."""
        return sum(map(pods.is_going, self.worker_pods))

    @property
    def num_workers(self) -> int:
        """Worker pods that exist."""
        return self._count("replicas")

    @property
    def num_updated(self) -> int:
        """Worker pods that match the spec."""
        return self._count("updatedReplicas")

    @property
    def num_serving(self) -> int:
        return sum(map(pods.is_ready, self.worker_pods))

    @property
    def num_routers(self) -> int:
        """Routers that serve."""
        return sum(map(pods.is_ready, self.router_pods))

    @property
    def is_counted(self) -> bool:
        """Whether the StatefulSet's counts are about what was applied last."""
        return self.stateful_set is not None and _is_current(self.stateful_set)

    @property
    def has_routers(self) -> bool:
        """Whether this Deployment has made routers."""
        return "observedGeneration" in (self.router or {}).get("status", {})

    def are_routers_updated(self, replicas: int) -> bool:
        """Whether all routers match the spec, whether or not they serve."""
        if self.router is None or not _is_current(self.router):
            return False
        found: int = self.router.get("status", {}).get("updatedReplicas", 0)
        return found == replicas

    def is_router_rolled_out(self, replicas: int) -> bool:
        if self.router is None or not _is_current(self.router):
            return False
        status = self.router.get("status", {})
        counts = [status.get(f"{kind}Replicas", 0) for kind in ("updated", "available")]
        return counts == [replicas, replicas] and status.get("replicas", 0) == replicas

    def _count(self, name: str) -> int:
        found: int = (self.stateful_set or {}).get("status", {}).get(name, 0)
        return found


def worker_pods(store: Store, key: Key) -> list[pods.Pod]:
    """The pods that the resource's StatefulSet has, whoever else carries their labels."""
    stateful_set = store.child(Ref("StatefulSet", key.namespace, worker_name(key.name)))
    return [
        pod
        for pod in store.children(key, "Pod")
        if _component(pod) == WORKER and pods.is_of_stateful_set(pod, stateful_set)
    ]


def router_pods(store: Store, key: Key, deployment: str) -> list[pods.Pod]:
    """The pods that the resource's Deployment has, whoever else carries their labels."""
    return [
        pod
        for pod in store.children(key, "Pod")
        if _component(pod) == ROUTER and pods.is_of_deployment(pod, deployment)
    ]


def lacking(wanted: Wanted, seen: Observed, now: dt.datetime) -> list[Subject]:
    """Objects whose warnings say why a pod is missing or does not start."""
    found = []
    if seen.stateful_set is not None and seen.num_workers < wanted.replicas:
        found.append(Subject(kind="StatefulSet", uid=seen.stateful_set["metadata"]["uid"]))
    slow = [p for p in seen.all_pods if pods.is_being_created(p, now)]
    return found + [Subject(kind="Pod", uid=pod["metadata"]["uid"]) for pod in slow]


def moment(text: str | None) -> dt.datetime | None:
    """A time that somebody wrote, in any form that the apiserver takes; None if it is no time."""
    try:
        found = dt.datetime.fromisoformat(text or "")
        return found.replace(tzinfo=found.tzinfo or dt.UTC).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def time_text(time: dt.datetime) -> str:
    """A time as Kubernetes writes it. Requires: it is in UTC."""
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def _component(pod: pods.Pod) -> str | None:
    label: str | None = pod["metadata"]["labels"].get(COMPONENT_LABEL)
    return label


def _is_current(body: dict[str, Any]) -> bool:
    generation = body["metadata"].get("generation")
    return generation is not None and body.get("status", {}).get("observedGeneration") == generation
