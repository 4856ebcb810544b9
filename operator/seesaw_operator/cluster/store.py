"""The state of the cluster as the watches report it: resources and their objects."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from seesaw_operator.names import DEPLOYMENT_LABEL

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The namespace and name of a SeesawDeployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Ref:
    """The identity of an object of ours."""

    kind: str
    namespace: str
    name: str


def ref_of(body: Object) -> Ref:
    metadata = body["metadata"]
    return Ref(body["kind"], metadata["namespace"], metadata["name"])


def owner_of(body: Object) -> Key | None:
    """Return the resource that an object belongs to, by its label."""
    metadata = body["metadata"]
    name = metadata.get("labels", {}).get(DEPLOYMENT_LABEL)
    return Key(metadata["namespace"], name) if name else None


class Store:
    """The latest version of everything that is watched."""

    def __init__(self) -> None:
        self._resources: dict[Key, Object] = {}
        self._children: dict[Ref, Object] = {}
        self._by_owner: dict[tuple[Key | None, str], dict[Ref, Object]] = {}

    def put_resource(self, body: Object) -> Key:
        key = Key(body["metadata"]["namespace"], body["metadata"]["name"])
        self._resources[key] = body
        return key

    def drop_resource(self, key: Key, uid: str) -> None:
        """Drop a deleted resource, unless it has been created again under its name."""
        found = self._resources.get(key)
        if found is not None and found["metadata"]["uid"] == uid:
            del self._resources[key]

    def resource(self, key: Key) -> Object | None:
        return self._resources.get(key)

    def resources(self) -> list[Key]:
        return list(self._resources)

    def put_child(self, body: Object) -> None:
        ref, owner = ref_of(body), owner_of(body)
        before = self._children.get(ref)
        if before is not None and owner_of(before) != owner:
            self.drop_child(ref)
        self._children[ref] = body
        self._by_owner.setdefault((owner, ref.kind), {})[ref] = body

    def drop_child(self, ref: Ref) -> None:
        body = self._children.pop(ref, None)
        if body is None:
            return
        place = owner_of(body), ref.kind
        del self._by_owner[place][ref]
        if not self._by_owner[place]:
            del self._by_owner[place]

    def child(self, ref: Ref) -> Object | None:
        return self._children.get(ref)

    def children(self, key: Key, kind: str) -> Iterable[Object]:
        """Return the objects of one kind that belong to a resource, oldest report first."""
        return self._by_owner.get((key, kind), {}).values()

    def refs(self, kind: str) -> set[Ref]:
        return {ref for ref in self._children if ref.kind == kind}
