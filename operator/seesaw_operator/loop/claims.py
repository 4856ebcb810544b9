"""One operator looks after a resource, however many are installed in a cluster.

Each writes its name into the status before it does anything else, and leaves alone what another
one holds that is alive. So two releases, or two lists of namespaces that overlap, never fight.
"""

from typing import Protocol

from seesaw_operator.api.crd import PLURAL
from seesaw_operator.cluster.store import Key, Object


class Claiming(Protocol):
    """What claiming takes of a cluster."""

    async def claim(self, resource: Object, operator: str) -> bool: ...
    async def is_operator_alive(self, operator: str, namespace: str) -> bool: ...
    async def record(self, resource: Object, kind: str, reason: str, message: str) -> None: ...


class Claims:
    """The resources that are this operator's to look after."""

    def __init__(self, cluster: Claiming, operator: str) -> None:
        self._cluster = cluster
        self._operator = operator
        self._told: dict[Key, str] = {}

    async def hold(self, resource: Object) -> bool:
        """Whether a resource is this operator's; it is claimed if nobody has it."""
        metadata = resource["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        holder = (resource.get("status") or {}).get("managedBy")
        holder = holder if isinstance(holder, str) else None
        if holder == self._operator:
            self._told.pop(key, None)
            return True
        if holder is not None and await self._cluster.is_operator_alive(holder, key.namespace):
            await self._tell(key, resource, holder)
            return False
        return await self._cluster.claim(resource, self._operator)

    def forget(self, key: Key) -> None:
        """Drop what is known of a resource that is gone."""
        self._told.pop(key, None)

    async def _tell(self, key: Key, resource: Object, holder: str) -> None:
        if self._told.get(key) == holder:
            return
        self._told[key] = holder
        message = (
            f"The operator {holder} looks after this resource, so {self._operator} leaves it "
            "alone. Uninstall one of the two, or let them watch different namespaces "
            "(watchNamespaces). If that one is gone for good: kubectl patch "
            f"{PLURAL} {key.name} -n {key.namespace} --subresource=status --type=merge "
            """-p '{"status":{"managedBy":null}}'"""
        )
        await self._cluster.record(resource, "Warning", "ManagedElsewhere", message)
