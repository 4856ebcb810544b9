"""All that keeps a resource's pods from serving, the worst first. Pure."""

from collections.abc import Iterable

from seesaw_operator.status import pods
from seesaw_operator.status.observed import Observed, Wanted
from seesaw_operator.status.pods import Trouble
from seesaw_operator.text import quoted

_REFUSED = (
    "Change what the message names: a quota or limit range, a service account, or what is in a "
    "podTemplate; or lower replicas, accelerator.count, engine.resources or kvBuffer.size."
)


def troubles(wanted: Wanted, seen: Observed) -> list[Trouble]:
    """Pods that cannot be made, then pods in trouble; workers before routers."""
    routers = seen.router_pods
    if seen.is_router_rolled_out(wanted.routers):  # one that was evicted has been replaced
        routers = tuple(p for p in routers if not pods.has_failed(p))
    return [
        *_unmade_workers(wanted, seen),
        *_of(seen.worker_pods, seen),
        *_unmade_routers(seen),
        *_of(routers, seen),
    ]


def _of(all_pods: Iterable[pods.Pod], seen: Observed) -> list[Trouble]:
    in_order = sorted(all_pods, key=lambda p: str(p["metadata"]["name"]))
    return [t for p in in_order if (t := pods.trouble(p, seen.warnings)) is not None]


def _unmade_workers(wanted: Wanted, seen: Observed) -> list[Trouble]:
    """A StatefulSet has no condition for it: only its events say why a pod is missing."""
    if seen.stateful_set is None or seen.num_workers >= wanted.replicas:
        return []
    metadata = seen.stateful_set["metadata"]
    warning = seen.warnings.get(metadata.get("uid", ""))
    return [] if warning is None else [_unmade("StatefulSet", metadata["name"], warning)]


def _unmade_routers(seen: Observed) -> list[Trouble]:
    found = (seen.router or {}).get("status", {}).get("conditions", ())
    return [
        _unmade("Deployment", (seen.router or {})["metadata"]["name"], c.get("message", ""))
        for c in found
        if c.get("type") == "ReplicaFailure" and c.get("status") == "True"
    ]


def _unmade(kind: str, name: str, said: str) -> Trouble:
    text = quoted(said).rstrip(".")
    return Trouble(reason="PodsRefused", message=f"{kind} {name}: {text}. {_REFUSED}")
