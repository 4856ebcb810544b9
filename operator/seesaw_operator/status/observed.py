"""What exists in the cluster for one resource, and what is wanted, as plain facts. Pure."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from seesaw_operator.api.status import Measured, Plan
from seesaw_operator.cluster.store import Key, Object, Ref, Store
from seesaw_operator.names import COMPONENT_LABEL, workload_name
from seesaw_operator.status.pods import (
    Pod,
    is_controlled_by,
    is_ready,
    is_slow_to_create,
    is_terminating,
)

_OTHERS = ("Service", "ServiceAccount", "PodDisruptionBudget", "Role", "RoleBinding")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedComponent:
    """What exists of one component.

    kind, body: the StatefulSet or Deployment that controls its pods.
    """

    kind: str
    body: Object | None = None
    pods: tuple[Pod, ...] = ()

    @property
    def num_pods(self) -> int:
        """Pods that exist, as the controller of ``body`` counts them."""
        return self._count("replicas")

    @property
    def num_updated(self) -> int:
        """Pods that match the spec, as the controller of ``body`` counts them."""
        return self._count("updatedReplicas")

    @property
    def num_serving(self) -> int:
        """Pods that are ready and not terminating."""
        return sum(map(is_ready, self.pods))

    @property
    def num_draining(self) -> int:
        """Pods that are terminating."""
        return sum(map(is_terminating, self.pods))

    @property
    def is_current(self) -> bool:
        """Whether the counts are about what was applied last."""
        generation = (self.body or {}).get("metadata", {}).get("generation")
        return generation is not None and self._status.get("observedGeneration") == generation

    def is_updated(self, num_pods: int) -> bool:
        """Whether that many pods match the spec, whether or not they serve."""
        return self.is_current and self.num_updated == num_pods

    def is_rolled_out(self, num_pods: int) -> bool:
        """Whether exactly that many pods exist, match the spec and are available."""
        available = self._count("availableReplicas")
        return self.is_updated(num_pods) and available == num_pods == self.num_pods

    @property
    def _status(self) -> Object:
        status: Object = (self.body or {}).get("status", {})
        return status

    def _count(self, name: str) -> int:
        count: int = self._status.get(name, 0)
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What exists of one resource, and what its workers report.

    components: by the component's name.
    others: further objects of the resource, such as Services.
    warnings: by an object's uid, the last Event about it if that is a warning. Only objects of
        which something is missing are looked up.
    """

    components: Mapping[str, ObservedComponent]
    measured: Measured | None = None
    others: tuple[Object, ...] = ()
    plan: Plan | None = None
    warnings: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_pods(self) -> tuple[Pod, ...]:
        return tuple(pod for found in self.components.values() for pod in found.pods)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """How many pods each component should have, and whether existing pods are to be left alone."""

    num_pods: Mapping[str, int]
    is_paused: bool = False

    def in_force(self, observed: Observed) -> "Desired":
        """Return what was applied last, for use where this could not be applied."""
        applied = {
            name: found.body["spec"]["replicas"]
            for name, found in observed.components.items()
            if found.body is not None
        }
        return replace(self, num_pods={**self.num_pods, **applied})


@dataclass(frozen=True, slots=True, kw_only=True)
class InvolvedObject:
    """An object whose Events may say why it makes no progress."""

    kind: str
    uid: str


def others_of(store: Store, key: Key) -> tuple[Object, ...]:
    """Return the objects of a resource that control no pods."""
    return tuple(body for kind in _OTHERS for body in store.children(key, kind))


def component_of(store: Store, key: Key, name: str, kind: str) -> ObservedComponent:
    """Return what exists of one component: of the pods, those that its own object controls.

    Other pods may carry the same labels.
    """
    body = store.child(Ref(kind, key.namespace, workload_name(key.name, name)))
    return ObservedComponent(
        kind=kind,
        body=body,
        pods=tuple(
            pod
            for pod in store.children(key, "Pod")
            if pod["metadata"]["labels"].get(COMPONENT_LABEL) == name
            and is_controlled_by(pod, kind, workload_name(key.name, name), body)
        ),
    )


def unexplained(desired: Desired, observed: Observed, now: dt.datetime) -> list[InvolvedObject]:
    """Return the objects whose Events may say why a pod is missing or does not start."""
    short = [
        found.body
        for name, found in observed.components.items()
        if found.kind == "StatefulSet"
        and found.body is not None
        and found.num_pods < desired.num_pods[name]
    ]
    slow = [pod for pod in observed.all_pods if is_slow_to_create(pod, now)]
    return [*_involved("StatefulSet", short), *_involved("Pod", slow)]


def _involved(kind: str, bodies: Iterable[Object]) -> list[InvolvedObject]:
    return [InvolvedObject(kind=kind, uid=body["metadata"]["uid"]) for body in bodies]


def parsed_time(text: str | None) -> dt.datetime | None:
    """Return a time in any form that the apiserver accepts, or None if the text is no time."""
    try:
        found = dt.datetime.fromisoformat(text or "")
        return found.replace(tzinfo=found.tzinfo or dt.UTC).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None


def time_text(time: dt.datetime) -> str:
    """Return a time as Kubernetes writes it. Requires: the time is in UTC."""
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")
