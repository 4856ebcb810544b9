"""Writes the status of a resource, and records what has changed in it as Events, once each."""

from collections.abc import Sequence
from typing import Any, Protocol

from seesaw_operator.api.status import Condition, ConditionType, Status
from seesaw_operator.cluster.errors import RefusedError
from seesaw_operator.cluster.store import Key, Object, Store
from seesaw_operator.status.component import Component

_REPORTED = (
    ConditionType.ACCEPTED,
    ConditionType.AVAILABLE,
    ConditionType.STALLED,
    ConditionType.DEGRADED,
)


class StatusWriter(Protocol):
    """What reporting needs of a cluster."""

    async def write_status(self, namespace: str, name: str, status: dict[str, Any]) -> bool: ...
    async def record(self, resource: Object, kind: str, reason: str, message: str) -> None: ...


class Reporter:
    """Reports changes of each resource's status.

    ``warn`` is for what a status may not be able to say.
    """

    def __init__(
        self, cluster: StatusWriter, store: Store, components: Sequence[Component]
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._components = components
        self._warned: dict[Key, tuple[int, str]] = {}

    async def report(self, resource: Object, old: Status, new: Status) -> None:
        """Write the status if it differs from the old one, and record Events for the changes.

        Raises: RefusedError, which is recorded as well, and UnavailableError.
        """
        if new == old:
            return
        metadata = resource["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        body = new.model_dump(by_alias=True, exclude_none=True, mode="json")
        try:
            exists = await self._cluster.write_status(key.namespace, key.name, body)
        except RefusedError as error:
            await self.warn(key, resource, "StatusNotWritten", f"{error}.")
            raise
        if not exists:
            self._store.drop_resource(key, metadata["uid"])
            return
        if self._store.resource(key) is resource:
            self._store.put_resource(resource | {"status": body})
        earlier = {condition.type: condition for condition in old.conditions}
        messages: set[str] = set()
        for condition in new.conditions:
            if condition.message in messages or not _is_news(
                condition, earlier.get(condition.type)
            ):
                continue
            kind = "Warning" if _is_bad(condition) else "Normal"
            await self._cluster.record(
                resource, kind, condition.reason, condition.message or condition.reason
            )
            messages.add(condition.message)
        for component in self._components:
            for event in component.events(old, new, resource):
                await self._cluster.record(resource, "Normal", event.reason, event.message)
            for event in component.warnings(old, new):
                if event.message not in messages:  # a condition may have said so
                    await self._cluster.record(resource, "Warning", event.reason, event.message)

    async def warn(self, key: Key, resource: Object, reason: str, message: str) -> None:
        """Record a warning, once for each generation of the spec until ``forget``."""
        warning = resource["metadata"]["generation"], reason
        if self._warned.get(key) != warning:
            await self._cluster.record(resource, "Warning", reason, message)
            self._warned[key] = warning

    def forget(self, key: Key) -> None:
        """Forget the warnings of a resource that has recovered or is gone."""
        self._warned.pop(key, None)


def _is_news(condition: Condition, earlier: Condition | None) -> bool:
    """Whether a condition is worth an Event. ``Ready`` follows from the others."""
    if condition.type not in _REPORTED or condition.status == "Unknown":
        return False
    if earlier is None:
        return condition.type == ConditionType.ACCEPTED or (
            _is_bad(condition) and condition.type != ConditionType.AVAILABLE
        )
    return (earlier.status, earlier.reason) != (condition.status, condition.reason)


def _is_bad(condition: Condition) -> bool:
    is_abnormal = condition.type in (ConditionType.DEGRADED, ConditionType.STALLED)
    return condition.status == ("True" if is_abnormal else "False")
