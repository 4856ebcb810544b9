"""What there is in the cluster for one resource, as plain facts. Pure."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seesaw_operator import pods
from seesaw_operator.api.spec import Spec
from seesaw_operator.api.status import Measured, Plan

TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One resource's objects, and what its workers report.

    warnings: the latest warning that Kubernetes recorded about an object, by (kind, name); only
    of objects that have been looked at because something is missing.
    """

    stateful_set: dict[str, Any] | None
    router: dict[str, Any] | None
    worker_pods: tuple[pods.Pod, ...]
    router_pods: tuple[pods.Pod, ...]
    measured: Measured | None
    plan: Plan | None = None
    warnings: Mapping[tuple[str, str], str] = field(default_factory=dict)

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


def lacking(spec: Spec, seen: Observed, now: dt.datetime) -> list[tuple[str, str]]:
    """Objects, by kind and name, whose warnings say why a pod is missing or does not start."""
    found = []
    if seen.stateful_set is not None and seen.num_workers < spec.replicas:
        found.append(("StatefulSet", str(seen.stateful_set["metadata"]["name"])))
    everyone = (*seen.worker_pods, *seen.router_pods)
    slow = [p for p in everyone if pods.is_being_created(p, now)]
    return found + [("Pod", str(pod["metadata"]["name"])) for pod in slow]


def _is_current(body: dict[str, Any]) -> bool:
    generation = body["metadata"].get("generation")
    return generation is not None and body.get("status", {}).get("observedGeneration") == generation
