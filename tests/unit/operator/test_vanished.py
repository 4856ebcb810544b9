"""What was deleted while nobody watched is found when a watch begins anew."""

from typing import cast

from seesaw_operator import main
from seesaw_operator.cluster.client import Cluster
from seesaw_operator.cluster.errors import UnavailableError
from seesaw_operator.cluster.store import Key, Store


class There:
    """An apiserver's resources; None where it does not answer."""

    def __init__(self, *uids: str, is_away: bool = False) -> None:
        self._uids, self._is_away = set(uids), is_away

    async def uids(self, namespace: str | None) -> set[str]:
        if self._is_away:
            raise UnavailableError("away")
        return self._uids


def followed() -> Store:
    store = Store()
    for namespace, name in (("one", "stays"), ("one", "goes"), ("one", "anew"), ("two", "goes")):
        uid = f"{namespace} {name}"
        store.put_resource({"metadata": {"namespace": namespace, "name": name, "uid": uid}})
    return store


async def vanished(store: Store, there: There, namespace: str | None) -> list[Key]:
    return await main._drop_deleted(cast("Cluster", there), store, namespace)


async def test_only_what_is_gone_from_the_namespace_is_forgotten() -> None:
    store = followed()
    there = There("one stays", "one anew, of another uid")
    gone = [Key("one", "goes"), Key("one", "anew")]
    assert await vanished(store, there, "one") == gone
    assert store.resources() == [Key("one", "stays"), Key("two", "goes")]
    assert await vanished(store, there, None) == [Key("two", "goes")]


async def test_an_apiserver_that_does_not_answer_makes_nothing_forgotten() -> None:
    store = followed()
    assert await vanished(store, There(is_away=True), None) == []
    assert len(store.resources()) == 4
