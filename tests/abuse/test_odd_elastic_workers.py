"""Elastic workers that say odd things of their pools: none draws or loses what is others'."""

import json
from contextlib import AsyncExitStack
from typing import Any

from seesaw_core.messages import VERSION, ElasticState, ModeName, Stage, WorkerState
from seesaw_core.writing import as_json
from support.fake_worker.odd import Act, OddWorker, answer, events
from support.fake_worker.router import router_before

PART = ElasticState(
    capacity_tokens=(4000, 4000),
    free_tokens=(4000, 4000),
    lost_instances=(),
    groups=(),
    num_running=0,
    prefills_by_degree={},
    decodes_by_degree={},
    failed_iterations=0,
    preemptions=0,
    restarts=0,
    migrated_tokens=0,
)
STATE = WorkerState(
    version=VERSION,
    mode=ModeName.ELASTIC,
    stage=Stage.SERVING,
    detail="",
    num_waiting=0,
    waiting_tokens=0,
    elastic=PART,
)


def reporting(**changes: object) -> Act:
    """Report a state with changes, over and over; ``...`` removes a field of the pool's part."""
    part = as_json(STATE)["elastic"]
    own = {k: v for k, v in (part | changes).items() if k in part and v is not ...}
    data: dict[str, Any] = as_json(STATE) | {"elastic": own}
    data |= {k: v for k, v in changes.items() if k not in part}
    return events(f"event: state\ndata: {json.dumps(data)}\n\n".encode())


GROUP = {"kind": "prefill", "instances": [0], "num_requests": 1}
UNREAD = {
    "free tokens below 0": (reporting(free_tokens=[-1, 5]), "free_tokens[0] must be"),
    "more than any number": (reporting(capacity_tokens=[2**63]), "capacity_tokens[0] must be"),
    "no capacity": (reporting(capacity_tokens=...), "capacity_tokens is missing"),
    "a pool that is none": (reporting(elastic=[]), "elastic must be"),
    "a group below 0": (reporting(groups=[GROUP | {"num_tokens": -1}]), "num_tokens must be"),
    "too many instances": (reporting(free_tokens=[1] * 257), "free_tokens must have at most"),
}
READ = {
    "without its part": reporting(elastic=None),
    "of a later version": reporting(version=9, new={"pool": 1}, elastic=as_json(STATE)["elastic"]),
    "before any instance is there": reporting(capacity_tokens=[], free_tokens=[]),
    "without one instance": reporting(capacity_tokens=[0, 0], lost_instances=[0, 1]),
    "of other lengths": reporting(capacity_tokens=[9, 9, 9], free_tokens=[9]),
    "with more free than there is": reporting(free_tokens=[2**62, 2**62]),
    "with a huge pool": reporting(capacity_tokens=[2**62] * 256, free_tokens=[2**62] * 256),
    "that is busy for ever": reporting(waiting_tokens=2**62),
    "with an endless prefill": reporting(groups=[GROUP | {"num_tokens": 2**62}]),
    "with groups of no known kind": reporting(groups=[GROUP | {"kind": "rest", "instances": [99]}]),
}


async def test_what_cannot_be_read_of_a_pool_is_told_of_its_worker_and_stops_nobody() -> None:
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(OddWorker(events=reporting()).running())
        odd = {
            name: await stack.enter_async_context(OddWorker(events=act).running())
            for name, (act, _) in UNREAD.items()
        }
        urls = [worker.url for worker in odd.values()]
        router = await stack.enter_async_context(router_before(*urls, good.url))
        await router.until_serving(good.url)
        for _ in range(20):
            assert (await router.ask())[0] == 200
        assert good.asked == 20
        log = router.logged()
        for name, (_, reason) in UNREAD.items():
            lines = [x for x in log.splitlines() if f"worker {odd[name].url} does not serve" in x]
            assert any(reason in line for line in lines), (name, lines)


async def test_a_pool_that_is_read_but_odd_neither_draws_nor_loses_requests_of_others() -> None:
    async with AsyncExitStack() as stack:
        good = await stack.enter_async_context(OddWorker(events=reporting()).running())
        odd = [
            await stack.enter_async_context(OddWorker(events=a).running()) for a in READ.values()
        ]
        router = await stack.enter_async_context(router_before(*(w.url for w in odd), good.url))
        await router.until_serving(good.url, *(w.url for w in odd))
        for _ in range(10 * (len(READ) + 1)):
            assert (await router.ask())[0] == 200
        assert good.asked >= 5
        workers = await router.workers()
        told = workers[good.url]
        assert (told.capacity_tokens, told.free_tokens) == (8000, 8000)
        shown = f'seesaw_router_elastic_tokens{{state="free",worker="{good.url}"}}'
        assert await router.metric(shown) == 8000
        unknown = [w.url for name, w in zip(READ, odd, strict=True) if "instance" in name]
        assert all(workers[url].capacity_tokens is None for url in unknown)


async def test_a_long_prompt_goes_only_where_it_fits_until_that_worker_fails() -> None:
    failing = OddWorker(events=reporting(), answer=answer(status="503 Oops"))
    small = OddWorker(events=reporting(capacity_tokens=[500], free_tokens=[500]))
    large = OddWorker(events=reporting(waiting_tokens=7000))
    async with AsyncExitStack() as stack:
        for worker in (small, large, failing):
            await stack.enter_async_context(worker.running())
        router = await stack.enter_async_context(router_before(small.url, large.url))
        await router.until_serving(small.url, large.url)
        for _ in range(5):
            assert (await router.ask(prompt="x" * 4 * 2000))[0] == 200
        assert (small.asked, large.asked) == (0, 5)
        assert (await router.ask())[0] == 200
        assert small.asked == 1
        router = await stack.enter_async_context(router_before(small.url, failing.url))
        await router.until_serving(small.url, failing.url)
        for _ in range(6):
            assert (await router.ask(prompt="x" * 4 * 2000))[0] == 200
        assert (small.asked, failing.asked) == (7, 6)
