"""Makes objects as their manifests say, with as few calls as can be."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from seesaw_operator.cluster.errors import RefusedError
from seesaw_operator.cluster.store import Key, Object, Ref, Store, ref_of
from seesaw_operator.loop.drift import has_digest_of, is_as_asked_for, with_digest
from seesaw_operator.names import Manifest, Owner


class Writes(Protocol):
    """What applying does to a cluster."""

    async def apply(self, manifest: Object, *, is_there: bool) -> Object: ...
    async def find(self, manifest: Object) -> Object | None: ...
    async def is_wanted(self, owner: Owner) -> bool: ...


class Applier:
    """Applies manifests; nothing at all if one of their names is somebody else's."""

    def __init__(self, cluster: Writes, store: Store) -> None:
        self._cluster = cluster
        self._store = store
        self._applied: dict[Key, dict[Ref, str]] = {}
        self._being_made: dict[Ref, str] = {}

    async def apply_all(self, manifests: Iterable[Manifest], owner: Owner) -> bool:
        """Apply what is not there as it should be, in the order given. Idempotent.

        Returns False, and does nothing, if the owner is gone or going, as the watch has yet to
        tell. Raises: RefusedError if an object is somebody else's or the apiserver does not take
        one; UnavailableError.
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
        """Apply them in order. After one is refused nothing new is made, and what is there is put
        right all the same. Raises: RefusedError, the first; UnavailableError."""
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
        """Keep names from other resources until they are taken; those that another keeps.

        One resource's names may be among another's, as with ``x`` and ``x-worker``, and the
        apiserver would let both apply an object that neither has found.
        """
        kept = {ref for ref in refs if self._being_made.get(ref, owner.uid) != owner.uid}
        ours = [ref for ref in refs if ref not in self._being_made]
        self._being_made.update(dict.fromkeys(ours, owner.uid))
        try:
            yield kept
        finally:
            for ref in ours:
                del self._being_made[ref]

    def forget(self, key: Key) -> None:
        """Drop what is known of a resource that is gone."""
        self._applied.pop(key, None)

    async def _find(self, manifest: Manifest) -> Object | None:
        here = self._store.child(ref_of(manifest))
        return here if here is not None else await self._cluster.find(manifest)

    async def _ensure(
        self, manifest: Manifest, there: Object | None, applied: dict[Ref, str]
    ) -> None:
        """Apply what differs. ``applied``: what each object was after it was applied last, which
        may be asked for in other words than those that the apiserver keeps."""
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
    """What changes when somebody changes what we apply, but not when a status changes."""
    metadata = body["metadata"]
    if "generation" in metadata:
        rest = [metadata.get(part) for part in ("labels", "annotations", "ownerReferences")]
        return f"{metadata['uid']} {metadata['generation']} {rest}"
    return f"{metadata['uid']} {metadata['resourceVersion']}"


def _is_later(body: Object, known: Object | None) -> bool:
    """Whether what an apply returned is newer than what the watch has reported meanwhile.

    Resource versions of one object are ordered numbers (KEP-5504); those that are none decide
    nothing, and the watch will bring the object.
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
    """Whether something is as a deletion of its owner leaves it: gone, or without an owner."""
    return any(
        (found is None and applied)
        or (found is not None and not found["metadata"].get("ownerReferences"))
        for found in there
    )


def _belongs_to(body: Object, owner: Owner) -> bool:
    """Whether an object is this very resource's, or was left by an earlier one of its name.

    What an earlier one left, deleted with its children orphaned, has our labels and nobody who
    controls it. It is adopted by being applied.
    """
    metadata = body["metadata"]
    controllers = [o["uid"] for o in metadata.get("ownerReferences") or () if o.get("controller")]
    if controllers:
        return controllers == [owner.uid]
    labels = metadata.get("labels") or {}
    return all(labels.get(key) == value for key, value in owner.marks.items())
