"""Names that two resources want at the same moment."""

import asyncio

import pytest

from seesaw_operator.applying import Applier
from seesaw_operator.drift import with_digest
from seesaw_operator.errors import RefusedError
from seesaw_operator.names import Manifest, Owner
from seesaw_operator.store import Object, Store

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


async def test_a_name_that_another_is_about_to_take_is_that_others() -> None:
    cluster = Cluster()
    applier = Applier(cluster, Store())
    earlier = asyncio.create_task(applier.make([service("x-worker", FIRST)], FIRST))
    await asyncio.sleep(0)
    later = asyncio.create_task(applier.make([service("x-worker", SECOND)], SECOND))
    await asyncio.sleep(0)
    cluster.is_let_on.set()
    assert await earlier
    with pytest.raises(RefusedError, match="Service x-worker"):
        await later
    assert cluster.there["x-worker"]["metadata"]["ownerReferences"][0]["uid"] == "x"


async def test_who_owns_an_object_is_not_disturbed_by_another_that_wants_its_name() -> None:
    cluster = Cluster(with_digest(service("x-worker", SECOND)))
    applier = Applier(cluster, Store())
    refused = asyncio.create_task(applier.make([service("x-worker", FIRST)], FIRST))
    await asyncio.sleep(0)
    owner = asyncio.create_task(applier.make([service("x-worker", SECOND)], SECOND))
    await asyncio.sleep(0)
    cluster.is_let_on.set()
    assert await owner
    with pytest.raises(RefusedError, match="Service x-worker"):
        await refused
