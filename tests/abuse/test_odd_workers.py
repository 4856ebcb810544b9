"""Workers that misbehave, before a real router: each is its own trouble and nobody else's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from stand_in.odd import (
    EVENTS_HEAD,
    Act,
    Asked,
    OddWorker,
    answer,
    close,
    event,
    events,
    hang,
    raw,
)
from stand_in.router import Router, router_before

TRANSITION = b'event: transition\ndata: {"number": 1}\n\n'

# What each tells in its event stream, and what the router's log must say of it.
UNREAD = {
    "a stage of a later version": (events(event(stage="resting")), "stage must be"),
    "no phase": (events(event(phase=...)), "phase is missing"),
    "a buffer of another type": (events(event(buffer=[1])), "buffer must be"),
    "a number that is none": (events(event(waiting_tokens="many")), "waiting_tokens must be"),
    "not a number": (events(event(phase_age_s=float("nan"))), "NaN"),
    "a huge number": (events(event(transitions=10**100)), "transitions must be"),
    "a transition without to": (events(event(), TRANSITION), "to is missing"),
    "no JSON": (events(b"event: state\ndata: {\n\n"), "is not JSON"),
    "bytes that are no text": (events(b"event: state\ndata: \xff\xfe\n\n"), "is not UTF-8"),
    "deep nesting": (events(b"event: state\ndata: " + b"[" * 200_000 + b"\n\n"), "nested"),
    "a line without end": (events(b"event: state\ndata: " + b"x" * 60_000, every_s=0), "longer"),
    "too many events": (events(b"data: 1\n\n" * 2000), "events a second"),
    "another content type": (answer(), "content-type must be"),
    "an error": (answer(status="500 Oops"), "with 500"),
    "a redirect": (answer(status="302 Found", headers="location: http://[\r\n"), "with 302"),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", hang), "cannot be reached"),
    "headers without end": (raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000, hang), "cannot be"),
    "silence": (hang, "said nothing"),
    "silence after a state": (raw(EVENTS_HEAD + event(), hang), "said nothing"),
    "comments for ever": (events(event(), b": still here\n\n"), "said nothing"),
    "events that end": (raw(EVENTS_HEAD + event(), close), "has ended"),
}


async def test_what_cannot_be_read_of_one_worker_is_told_of_it_and_stops_nobody() -> None:
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(OddWorker().running())
        odd = {
            name: await stack.enter_async_context(OddWorker(events=act).running())
            for name, (act, _) in UNREAD.items()
        }
        urls = [w.url for w in odd.values()]
        router = await stack.enter_async_context(router_before(*urls, good.url))
        await router.until_serving(good.url)
        for _ in range(70):
            assert (await router.ask())[0] == 200
            await asyncio.sleep(0.1)
        assert (await router.workers())[good.url]["serving"]
        log = router.logged()
        for name, (_, reason) in UNREAD.items():
            lines = [x for x in log.splitlines() if f"worker {odd[name].url} does not serve" in x]
            assert any(reason in line for line in lines), (name, lines)
        assert f"worker {good.url} does not" not in log.replace("answered yet", "")


@asynccontextmanager
async def routed(
    *workers: OddWorker, flags: tuple[str, ...] = (), serving: bool = True
) -> AsyncIterator[Router]:
    """These workers, running, and a router before them."""
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker.running())
        urls = [w.url for w in workers]
        router = await stack.enter_async_context(router_before(*urls, flags=flags))
        if serving:
            await router.until_serving(*urls)
        yield router


def slow(seconds: float, act: Act | None = None) -> Act:
    async def act_later(asked: Asked) -> None:
        await asyncio.sleep(seconds)
        await (act or answer())(asked)

    return act_later


async def at_a_rate(router: Router, per_s: float, for_s: float) -> list[int]:
    """The statuses of requests at an even rate."""
    async with asyncio.TaskGroup() as group:
        tasks = []
        for _ in range(round(per_s * for_s)):
            tasks.append(group.create_task(router.ask()))
            await asyncio.sleep(1 / per_s)
    return [task.result()[0] for task in tasks]


async def test_a_worker_that_fails_at_once_gets_less_than_its_share_and_comes_back() -> None:
    good = [OddWorker(answer=slow(0.3)) for _ in range(3)]
    bad = OddWorker(answer=answer(status="500 Internal Server Error"))
    async with routed(bad, *good) as router:
        first = await at_a_rate(router, 40, 3)
        assert first.count(500) < 0.1 * len(first)
        assert (await router.workers())[bad.url]["standing"] == "ejected"
        assert await router.metric('seesaw_router_ejected_workers{reason="failed"} ') == 1
        assert f"worker {bad.url} gets nothing for 5 s" in router.logged()
        bad.answer, asked = slow(0.3), bad.asked
        then = await at_a_rate(router, 20, 6)
        assert then.count(500) == 0
        assert bad.asked > asked
        assert (await router.workers())[bad.url]["standing"] == "returning"
