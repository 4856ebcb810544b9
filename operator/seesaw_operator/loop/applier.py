"""Applies manifests to the cluster with as few calls as possible."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from seesaw_operator.cluster.errors import RefusedError
from seesaw_operator.cluster.store import Key, Object, Ref, Store, ref_of
from seesaw_operator.loop.drift import has_digest_of, is_as_asked_for, with_digest
from seesaw_operator.names import Manifest, Owner


class Writes(Protocol):
    """What applying needs of a cluster."""

    async def apply(self, manifest: Object, *, is_there: bool) -> Object: ...
    async def find(self, manifest: Object) -> Object | None: ...
    async def is_wanted(self, owner: Owner) -> bool: ...


class Applier:
    """Applies manifests, or none of them if an object of their names belongs to somebody else."""

    def __init__(self, cluster: Writes, store: Store) -> None:
        self._cluster = cluster
        self._store = store
        self._applied: dict[Key, dict[Ref, str]] = {}
        self._reserved_by: dict[Ref, str] = {}

    async def apply_all(self, manifests: Iterable[Manifest], owner: Owner) -> bool:
        """Apply what is missing or differs, in the order given. Idempotent.

        Returns False, and does nothing, if the owner is deleted or being deleted, which the watch
        may not have reported yet.

        Raises: RefusedError if an object belongs to somebody else or the apiserver refuses one;
        UnavailableError.
        """
        wanted = [with_digest(manifest) for manifest in manifests]
        with self._reserved([ref_of(each) for each in wanted], owner) as kept:
            there = await asyncio.gather(*(self._find(each) for each in wanted))
            pairs = list(zip(wanted, there, strict=True))
            foreign = {
                ref_of(each)
                for each, found in pairs
                if (ref_of(each) in kept if found is None else not _belongs_to(found, owner))
            }
            if foreign:
                raise RefusedError(
                    _of_others([ref for ref in map(ref_of, wanted) if ref in foreign])
                )
            applied = self._applied.setdefault(Key(owner.namespace, owner.name), {})
            if _is_left(there, applied) and not await self._cluster.is_wanted(owner):
                return False
            await self._ensure_all(pairs, applied)
        return True

    async def _ensure_all(
        self, pairs: list[tuple[Manifest, Object | None]], applied: dict[Ref, str]
    ) -> None:
        """Apply the manifests in order.

        After a refusal nothing new is created, but existing objects are still corrected.

        Raises: RefusedError, the first of them; UnavailableError.
        """
        refused: RefusedError | None = None
        for each, found in pairs:
            if refused is not None and found is None:
                continue
            try:
                await self._ensure(each, found, applied)
            except RefusedError as error:
                refused = refused or error
        if refused is not None:
            raise refused

    @contextlib.contextmanager
    def _reserved(self, refs: list[Ref], owner: Owner) -> Iterator[set[Ref]]:
        """Reserve names until their objects exist, and yield those that another resource reserves.

        The names of two resources may overlap, as for ``x`` and ``x-worker``. The apiserver would
        let both apply an object that neither has found.
        """
        kept = {ref for ref in refs if self._reserved_by.get(ref, owner.uid) != owner.uid}
        ours = {ref for ref in refs if ref not in self._reserved_by}
        self._reserved_by.update(dict.fromkeys(ours, owner.uid))
        try:
            yield kept
        finally:
            for ref in ours:
                del self._reserved_by[ref]

    def forget(self, key: Key) -> None:
        """Forget a resource that is deleted."""
        self._applied.pop(key, None)

    async def _find(self, manifest: Manifest) -> Object | None:
        here = self._store.child(ref_of(manifest))
        return here if here is not None else await self._cluster.find(manifest)

    async def _ensure(
        self, manifest: Manifest, there: Object | None, applied: dict[Ref, str]
    ) -> None:
        """Apply a manifest if the object differs from it.

        applied: the version of each object after it was last applied. The apiserver may store a
            manifest in another form, such as a normalized quantity.
        """
        ref = ref_of(manifest)
        if there is not None and (
            is_as_asked_for(there, manifest)
            or (has_digest_of(there, manifest) and applied.get(ref) == _version(there))
        ):
            return
        body = await self._cluster.apply(manifest, is_there=there is not None)
        applied[ref] = _version(body)
        if _is_later(body, self._store.child(ref)):
            self._store.put_child(body)


def _version(body: Object) -> str:
    """Return a text that changes with whatever we apply, but not with the status."""
    metadata = body["metadata"]
    if "generation" in metadata:
        rest = [metadata.get(part) for part in ("labels", "annotations", "ownerReferences")]
        return f"{metadata['uid']} {metadata['generation']} {rest}"
    return f"{metadata['uid']} {metadata['resourceVersion']}"


def _is_later(body: Object, known: Object | None) -> bool:
    """Whether the result of an apply is newer than what the watch has reported meanwhile.

    Resource versions of one object are ordered numbers (KEP-5504). If they are not numbers, the
    result is dropped, and the watch will report the object.
    """
    if known is None or known["metadata"]["uid"] != body["metadata"]["uid"]:
        return True
    versions = [str(each["metadata"]["resourceVersion"]) for each in (body, known)]
    return all(v.isdecimal() for v in versions) and int(versions[0]) > int(versions[1])


def _of_others(refs: list[Ref]) -> str:
    are = "is" if len(refs) == 1 else "are"
    named = ", ".join(f"{ref.kind} {ref.name}" for ref in refs)
    return f"{named} {are} there and {are} not this resource's: delete or rename one of the two"


def _is_left(there: Iterable[Object | None], applied: dict[Ref, str]) -> bool:
    """Whether an object is as the deletion of its owner leaves it: gone, or without an owner."""
    return any(
        (found is None and applied)
        or (found is not None and not found["metadata"].get("ownerReferences"))
        for found in there
    )


def _belongs_to(body: Object, owner: Owner) -> bool:
    """Whether an object belongs to this resource, or was orphaned by an earlier one of its name.

    An orphan has our labels and no controller. Applying it adopts it.
    """
    metadata = body["metadata"]
    controllers = [o["uid"] for o in metadata.get("ownerReferences") or () if o.get("controller")]
    if controllers:
        return controllers == [owner.uid]
    labels = metadata.get("labels") or {}
    return all(labels.get(key) == value for key, value in owner.marks.items())
