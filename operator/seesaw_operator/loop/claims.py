"""One operator manages a resource, however many are installed in a cluster.

Each operator writes its name into the status before anything else, and ignores a resource that
another live operator has claimed. So two releases, or two overlapping lists of namespaces, never
conflict.
"""

from typing import Protocol

from seesaw_operator.api.crd import PLURAL
from seesaw_operator.cluster.store import Key, Object


class Claiming(Protocol):
    """What claiming needs of a cluster."""

    async def claim(self, resource: Object, operator: str) -> bool: ...
    async def is_operator_alive(self, operator: str, namespace: str) -> bool: ...
    async def record(self, resource: Object, kind: str, reason: str, message: str) -> None: ...


class Claims:
    """The resources that this operator manages."""

    def __init__(self, cluster: Claiming, operator: str) -> None:
        self._cluster = cluster
        self._operator = operator
        self._reported: dict[Key, str] = {}

    async def hold(self, resource: Object) -> bool:
        """Whether this operator manages a resource. An unclaimed resource is claimed."""
        metadata = resource["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        holder = (resource.get("status") or {}).get("managedBy")
        holder = holder if isinstance(holder, str) else None
        if holder == self._operator:
            self._reported.pop(key, None)
            return True
        if holder is not None and await self._cluster.is_operator_alive(holder, key.namespace):
            await self._report(key, resource, holder)
            return False
        return await self._cluster.claim(resource, self._operator)

    def forget(self, key: Key) -> None:
        """Forget a resource that is deleted."""
        self._reported.pop(key, None)

    async def _report(self, key: Key, resource: Object, holder: str) -> None:
        if self._reported.get(key) == holder:
            return
        self._reported[key] = holder
        message = (
            f"The operator {holder} looks after this resource, so {self._operator} leaves it "
            "alone. Uninstall one of the two, or let them watch different namespaces "
            "(watchNamespaces). If that one is gone for good: kubectl patch "
            f"{PLURAL} {key.name} -n {key.namespace} --subresource=status --type=merge "
            """-p '{"status":{"managedBy":null}}'"""
        )
        await self._cluster.record(resource, "Warning", "ManagedElsewhere", message)
