"""Names that two resources want at the same moment."""

import asyncio

import pytest

from seesaw_operator.cluster.errors import RefusedError
from seesaw_operator.cluster.store import Object, Store, ref_of
from seesaw_operator.loop.applier import Applier
from seesaw_operator.loop.drift import with_digest
from seesaw_operator.names import Manifest, Owner

FIRST, SECOND = (Owner(name=name, namespace="team", uid=name) for name in ("x", "x-worker"))


def service(name: str, owner: Owner) -> Manifest:
    metadata = owner.metadata(name, "worker")
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}}


class Cluster:
    """Objects by their names, which are found only once it is let go on."""

    def __init__(self, *there: Object) -> None:
        self.there = {body["metadata"]["name"]: body for body in there}
        self.is_let_on = asyncio.Event()

    async def apply(self, manifest: Object, *, is_there: bool) -> Object:
        name = manifest["metadata"]["name"]
        assert is_there == (name in self.there)
        self.there[name] = manifest
        body: Object = manifest | {"metadata": manifest["metadata"] | {"uid": name}}
        body["metadata"]["resourceVersion"] = "1"
        return body

    async def find(self, manifest: Object) -> Object | None:
        await self.is_let_on.wait()
        return self.there.get(manifest["metadata"]["name"])

    async def is_wanted(self, owner: Owner) -> bool:
        return True


async def at_once(cluster: Cluster, earlier: Owner, later: Owner) -> list[bool | BaseException]:
    """Both make the Service ``x-worker``; what becomes of the earlier and of the later."""
    applier = Applier(cluster, Store())
    making = []
    for owner in (earlier, later):
        making.append(asyncio.create_task(applier.apply_all([service("x-worker", owner)], owner)))
        await asyncio.sleep(0)
    cluster.is_let_on.set()
    return await asyncio.gather(*making, return_exceptions=True)


async def test_a_name_that_another_is_about_to_take_is_that_others() -> None:
    cluster = Cluster()
    first, second = await at_once(cluster, FIRST, SECOND)
    assert first is True
    assert isinstance(second, RefusedError)
    assert "Service x-worker" in str(second)
    assert cluster.there["x-worker"]["metadata"]["ownerReferences"][0]["uid"] == "x"


class Refusing(Cluster):
    """Takes nothing of the Service ``refused``."""

    async def apply(self, manifest: Object, *, is_there: bool) -> Object:
        if manifest["metadata"]["name"] == "refused":
            raise RefusedError("Service refused: no")
        return await super().apply(manifest, is_there=is_there)


async def test_after_a_refusal_what_is_there_is_put_right_and_nothing_new_is_made() -> None:
    cluster = Refusing(with_digest(service("refused", FIRST)), service("drifted", FIRST))
    cluster.is_let_on.set()
    wanted = [service(name, FIRST) for name in ("refused", "drifted", "new")]
    wanted[0]["spec"] = {"x": 1}
    with pytest.raises(RefusedError, match="Service refused: no"):
        await Applier(cluster, Store()).apply_all(wanted, FIRST)
    assert "annotations" in cluster.there["drifted"]["metadata"]
    assert "new" not in cluster.there


async def test_a_status_that_comes_while_an_object_is_applied_does_not_hide_what_was_applied() -> (
    None
):
    store = Store()
    before = with_digest(service("x-worker", FIRST))
    before["metadata"] |= {"uid": "u", "resourceVersion": "5", "namespace": "team"}
    store.put_child(before)

    class Racing(Cluster):
        async def apply(self, manifest: Object, *, is_there: bool) -> Object:
            store.put_child(before | {"metadata": before["metadata"] | {"resourceVersion": "9"}})
            return manifest | {
                "metadata": manifest["metadata"] | {"uid": "u", "resourceVersion": "10"}
            }

    wanted = service("x-worker", FIRST) | {"spec": {"ports": [1]}}
    await Applier(Racing(before), store).apply_all([wanted], FIRST)
    known = store.child(ref_of(before))
    assert known is not None
    assert known["metadata"]["resourceVersion"] == "10"


async def test_who_owns_an_object_is_not_disturbed_by_another_that_wants_its_name() -> None:
    there = with_digest(service("x-worker", SECOND))
    refused, owner = await at_once(Cluster(there), FIRST, SECOND)
    assert owner is True
    assert isinstance(refused, RefusedError)
