"""Each resource is looked at by one worker at a time, and again after a failure."""

import asyncio

import pytest

from seesaw_operator.cluster.store import Key
from seesaw_operator.loop import workqueue
from seesaw_operator.loop.workqueue import WorkQueue

A, B = Key("team", "a"), Key("team", "b")


async def test_what_is_added_while_it_is_looked_at_is_looked_at_once_more() -> None:
    looked: list[Key] = []
    gate = asyncio.Event()

    async def look(key: Key) -> None:
        looked.append(key)
        await gate.wait()

    queue = WorkQueue(look)
    queue.add(A)
    await asyncio.sleep(0)
    queue.add(A)
    queue.add(A)
    queue.add(B)
    await asyncio.sleep(0)
    assert looked == [A, B], "never two at a time of one, but different ones"
    gate.set()
    await asyncio.sleep(0.01)
    assert looked == [A, B, A]
    await queue.close()


async def test_of_many_only_a_few_are_looked_at_at_once_and_none_is_forgotten() -> None:
    now, most, done = 0, 0, 0

    async def look(_: Key) -> None:
        nonlocal now, most, done
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now, done = now - 1, done + 1

    queue = WorkQueue(look)
    for number in range(1000):
        queue.add(Key(f"team {number % 10}", str(number)))
    while done < 1000:
        await asyncio.sleep(0)
    assert most == workqueue._AT_ONCE
    await queue.close()


async def test_a_namespace_whose_calls_hang_leaves_room_for_the_others() -> None:
    looked: list[Key] = []

    async def look(key: Key) -> None:
        if key.namespace == "hangs":
            await asyncio.Event().wait()
        looked.append(key)

    queue = WorkQueue(look)
    for number in range(500):
        queue.add(Key("hangs", str(number)))
    queue.add(A)
    async with asyncio.timeout(5):
        while not looked:
            await asyncio.sleep(0)
    assert looked == [A]
    await queue.close()


async def test_after_a_failure_what_changes_below_a_resource_does_not_hurry_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workqueue, "_FIRST_DELAY_S", 0.2)
    looked = 0

    async def look(_: Key) -> None:
        nonlocal looked
        looked += 1
        raise RuntimeError("again and again")

    queue = WorkQueue(look)
    queue.add(A)
    for _ in range(100):
        await asyncio.sleep(0.001)
        queue.touch(A)
    assert looked == 1
    queue.add(A)  # somebody has changed the resource itself
    await asyncio.sleep(0.01)
    assert looked == 2
    await queue.close()


async def test_a_failure_stops_nobody_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workqueue, "_FIRST_DELAY_S", 0.01)
    looked: list[Key] = []

    async def look(key: Key) -> None:
        looked.append(key)
        if looked == [A]:
            raise RuntimeError("the first time")

    queue = WorkQueue(look)
    queue.add(A)
    queue.add(B)
    await asyncio.sleep(0.1)
    assert looked == [A, B, A]
    await queue.close()


async def test_closing_stops_what_is_being_done() -> None:
    ended = False

    async def look(_: Key) -> None:
        nonlocal ended
        await asyncio.sleep(60)
        ended = True

    queue = WorkQueue(look)
    queue.add(A)
    await asyncio.sleep(0)
    await queue.close()
    assert not ended
