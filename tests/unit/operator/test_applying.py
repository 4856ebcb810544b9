"""Names that two resources want at the same moment."""

import asyncio

from seesaw_operator.cluster.errors import RefusedError
from seesaw_operator.cluster.store import Object, Store
from seesaw_operator.loop.applying import Applier
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
        making.append(asyncio.create_task(applier.make([service("x-worker", owner)], owner)))
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


async def test_who_owns_an_object_is_not_disturbed_by_another_that_wants_its_name() -> None:
    there = with_digest(service("x-worker", SECOND))
    refused, owner = await at_once(Cluster(there), FIRST, SECOND)
    assert owner is True
    assert isinstance(refused, RefusedError)
