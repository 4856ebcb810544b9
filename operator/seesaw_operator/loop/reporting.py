"""Writes what there is to say of a resource, and records as Events what is news. Once each."""

from typing import Any, Protocol

from seesaw_operator.api.status import Condition, ConditionType, Status
from seesaw_operator.cluster.errors import RefusedError
from seesaw_operator.cluster.store import Key, Object, Store
from seesaw_operator.status import layout_plans

_TOLD = (
    ConditionType.ACCEPTED,
    ConditionType.AVAILABLE,
    ConditionType.STALLED,
    ConditionType.DEGRADED,
)


class Telling(Protocol):
    """What telling takes of a cluster."""

    async def write_status(self, namespace: str, name: str, status: dict[str, Any]) -> bool: ...
    async def record(self, resource: Object, kind: str, reason: str, message: str) -> None: ...


class Teller:
    """Says of each resource what has changed.

    ``warn`` is for what a status may not be able to say.
    """

    def __init__(self, cluster: Telling, store: Store) -> None:
        self._cluster = cluster
        self._store = store
        self._warned: dict[Key, tuple[int, str]] = {}

    async def tell(self, resource: Object, old: Status, status: Status) -> None:
        """Write the status if it says anything new, and record what has changed.

        Raises: RefusedError, which is recorded, and UnavailableError.
        """
        if status == old:
            return
        metadata = resource["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        outside = status.model_dump(by_alias=True, exclude_none=True, mode="json")
        try:
            is_there = await self._cluster.write_status(key.namespace, key.name, outside)
        except RefusedError as error:
            await self.warn(key, resource, "StatusNotWritten", f"{error}.")
            raise
        if not is_there:
            self._store.drop_resource(key, metadata["uid"])
            return
        if self._store.resource(key) is resource:
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
        for reason, message in layout_plans.news(old, status, resource):
            await self._cluster.record(resource, "Normal", reason, message)

    async def warn(self, key: Key, resource: Object, reason: str, message: str) -> None:
        """Record a warning, once for each spec until ``forget``."""
        about = resource["metadata"]["generation"], reason
        if self._warned.get(key) != about:
            await self._cluster.record(resource, "Warning", reason, message)
            self._warned[key] = about

    def forget(self, key: Key) -> None:
        """Drop what was warned of: it is over, or the resource is gone."""
        self._warned.pop(key, None)


def _is_news(condition: Condition, before: Condition | None) -> bool:
    """Whether people would want to read of it. Ready follows from the others."""
    if condition.type not in _TOLD or condition.status == "Unknown":
        return False
    if before is None:
        return condition.type is ConditionType.ACCEPTED or (
            _is_bad(condition) and condition.type is not ConditionType.AVAILABLE
        )
    return (before.status, before.reason) != (condition.status, condition.reason)


def _is_bad(condition: Condition) -> bool:
    is_abnormal = condition.type in (ConditionType.DEGRADED, ConditionType.STALLED)
    return condition.status == ("True" if is_abnormal else "False")
