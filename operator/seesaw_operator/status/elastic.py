"""Elastic instances, as workers report them: what the status shows of them, and which are lost.
Pure.

A worker serves on with the instances that are left, so a lost one keeps no pod from serving. It is
reported as an impairment, and once as an Event.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from seesaw_core.messages import ElasticState
from seesaw_operator.api.parallelism import MOST_INSTANCES
from seesaw_operator.api.status import (
    MOST_ELASTIC_WORKERS,
    ElasticFigures,
    ElasticWorker,
    IterationCounts,
    Measured,
    Status,
)
from seesaw_operator.status.condition_state import Cause
from seesaw_operator.status.observed import Observed
from seesaw_operator.text import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """The instances of one worker.

    lost: the numbers of those that have died or hung.
    kv_used_percent: by instance; 0 for one that is lost.
    prefills, decodes: iterations so far, by the number of instances.
    """

    lost: tuple[int, ...]
    kv_used_percent: tuple[int, ...]
    prefills: Mapping[int, int]
    decodes: Mapping[int, int]
    migrated_bytes: int


def instances_of(part: ElasticState | None) -> Instances | None:
    """Return the instances that a worker reports; None if it has none, or none yet.

    Raises: ValueError if what it reports contradicts itself.
    """
    if part is None or not part.capacity_tokens:
        return None
    count = len(part.capacity_tokens)
    if count > MOST_INSTANCES or len(part.free_tokens) != count:
        raise ValueError(f"it has {count} instances, and free tokens of {len(part.free_tokens)}")
    if any(number >= count for number in part.lost_instances):
        raise ValueError(f"it has {count} instances, and others are lost")
    pairs = zip(part.capacity_tokens, part.free_tokens, strict=True)
    return Instances(
        lost=tuple(sorted(set(part.lost_instances))),
        kv_used_percent=tuple(_used_percent(capacity, free) for capacity, free in pairs),
        prefills=_by_degree(part.prefills_by_degree, count),
        decodes=_by_degree(part.decodes_by_degree, count),
        migrated_bytes=part.migrated_bytes,
    )


def _used_percent(capacity: int, free: int) -> int:
    return 100 * max(0, capacity - free) // capacity if capacity else 0


def _by_degree(counts: Mapping[str, int], most: int) -> dict[int, int]:
    known = {str(degree): degree for degree in range(1, most + 1)}
    if unknown := counts.keys() - known.keys():
        raise ValueError(f"it has {most} instances, and groups of {ascii(min(unknown))[:20]}")
    return {known[degree]: count for degree, count in counts.items()}


def figures_of(by_pod: Mapping[str, Instances]) -> ElasticFigures | None:
    """Return the figures of all workers of a resource; None if none has instances.

    by_pod: the instances of each worker that serves, by the name of its pod.
    """
    if not by_pod:
        return None
    found = list(by_pod.values())
    num_instances = sum(len(each.kv_used_percent) for each in found)
    num_lost = sum(len(each.lost) for each in found)
    shown = sorted(by_pod.items(), key=lambda item: (not item[1].lost, item[0]))
    degrees = sorted({degree for each in found for degree in (*each.prefills, *each.decodes)})
    return ElasticFigures(
        instances=f"{num_instances - num_lost}/{num_instances}",
        lost_instances=num_lost,
        iterations=tuple(
            IterationCounts(
                degree=degree,
                prefills=_total(each.prefills.get(degree, 0) for each in found),
                decodes=_total(each.decodes.get(degree, 0) for each in found),
            )
            for degree in degrees
        ),
        migrated_bytes=_total(each.migrated_bytes for each in found),
        workers=tuple(
            ElasticWorker(pod=pod, lost=each.lost, kv_used_percent=each.kv_used_percent)
            for pod, each in shown[:MOST_ELASTIC_WORKERS]
        ),
    )


def impairments(observed: Observed) -> list[Cause]:
    """Return which pods serve with fewer instances than they began with."""
    return [_lost(each) for each in _impaired(observed.measured)]


def warnings(old: Status, new: Status) -> list[Cause]:
    """Return an Event for each worker that has lost further instances."""
    before = {each.pod: set(each.lost) for each in _impaired(old.measured)}
    return [
        _lost(each)
        for each in _impaired(new.measured)
        if not set(each.lost) <= before.get(each.pod, set())
    ]


def _impaired(measured: Measured | None) -> list[ElasticWorker]:
    if measured is None or measured.elastic is None:
        return []
    return [each for each in measured.elastic.workers if each.lost]


def _lost(worker: ElasticWorker) -> Cause:
    instances = counted(len(worker.kv_used_percent), "instance", "instances")
    verb = "is" if len(worker.lost) == 1 else "are"
    return Cause(
        reason="InstancesLost",
        message=f"Pod {worker.pod}: {len(worker.lost)} of {instances} {verb} lost (number "
        f"{', '.join(map(str, worker.lost))}). The worker serves on with the others, and has all "
        f"again once its pod is replaced. See why: kubectl logs {worker.pod}; to replace it: "
        f"kubectl delete pod {worker.pod}",
    )


def _total(figures: Iterable[int]) -> int:
    return min(sum(figures), 2**63 - 1)
