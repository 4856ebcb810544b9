"""Workers that fail requests or are not there: who is asked next, and who is asked no more."""

import asyncio
import json
import time

from support.fake_worker.odd import (
    Asked,
    OddWorker,
    answer,
    by_prompt,
    close,
    cut,
    event,
    events,
    slow,
)
from support.fake_worker.router import Router, routed
from support.fake_worker.waiting import until


async def at_a_rate(router: Router, per_s: float, for_s: float) -> list[int]:
    """The statuses of requests at an even rate."""
    async with asyncio.TaskGroup() as group:
        tasks = []
        for _ in range(round(per_s * for_s)):
            tasks.append(group.create_task(router.ask()))
            await asyncio.sleep(1 / per_s)
    return [task.result()[0] for task in tasks]


async def is_known(router: Router, worker: OddWorker, why: str) -> bool:
    """Whether the router knows why a worker does not serve."""
    return why in (await router.workers())[worker.url].reason


async def test_a_worker_that_fails_at_once_gets_less_than_its_share_and_comes_back() -> None:
    good = [OddWorker(answer=slow(0.3)) for _ in range(3)]
    bad = OddWorker(answer=answer(status="500 Internal Server Error"))
    async with routed(bad, *good) as router:
        first = await at_a_rate(router, 40, 3)
        assert first.count(500) < 0.1 * len(first)
        assert (await router.workers())[bad.url].standing == "ejected"
        assert await router.metric('seesaw_router_ejected_workers{reason="failed"} ') == 1
        assert f"worker {bad.url} gets no requests for 5 s" in router.logged()
        bad.answer, asked = slow(0.3), bad.asked
        then = await at_a_rate(router, 20, 6)
        assert then.count(500) == 0
        assert bad.asked > asked
        assert (await router.workers())[bad.url].standing == "returning"


async def test_light_requests_are_not_drawn_to_the_worker_that_fails_them_at_once() -> None:
    good = [OddWorker(answer=answer()) for _ in range(2)]
    bad = OddWorker(answer=answer(status="500 Internal Server Error"))
    async with routed(bad, *good) as router:
        statuses = []
        for _ in range(60):
            async with router.http.get(f"{router.url}/v1/models") as response:
                statuses.append(response.status)
        assert statuses.count(500) < 10


async def test_what_only_one_worker_can_answer_does_not_eject_it() -> None:
    def worker(*, is_owner: bool) -> OddWorker:
        async def act(asked: Asked) -> None:
            is_asked_for_it = asked.path.startswith("/v1/responses/")
            is_good = is_asked_for_it == is_owner
            await answer(status="200 OK" if is_good else "404 Not Found")(asked)

        return OddWorker(answer=act)

    workers = [worker(is_owner=number == 0) for number in range(3)]
    async with routed(*workers) as router:
        body = json.dumps({"input": "x", "previous_response_id": "resp_1"})
        for _ in range(12):
            async with router.http.post(f"{router.url}/v1/responses", data=body) as response:
                assert response.status == 404
        standings = {w.standing for w in (await router.workers()).values()}
        assert standings == {"full"}


async def test_a_request_that_ends_its_worker_is_tried_on_two_of_three() -> None:
    workers = [OddWorker(answer=by_prompt({"poison": cut})) for _ in range(3)]
    async with routed(*workers) as router:
        await router.ask()  # a connection that is kept open must not make a difference
        before = sum(w.asked for w in workers)
        status, body = await router.ask(prompt="poison")
        assert status == 502
        assert "2 attempts" in json.loads(body)["error"]["message"]
        # The first may have been asked once more, over a fresh connection.
        assert sum(w.asked for w in workers) - before <= 3
        assert await router.metric("seesaw_router_retries_total ") == 1


async def test_what_one_client_gets_marks_no_worker_as_lost_for_others() -> None:
    acts = {"503": answer(status="503 Busy"), "reset": cut}
    workers = [OddWorker(answer=by_prompt(acts)) for _ in range(2)]
    async with routed(*workers) as router:
        for number in range(40):
            status, _ = await router.ask(prompt="503" if number % 2 else "reset")
            assert status == (503 if number % 2 else 502)
            async with router.http.get(f"{router.url}/v1/models") as response:
                assert response.status == 200
        assert "does not serve" not in router.logged().replace("not answered yet", "")


async def test_a_kept_connection_that_closes_just_then_costs_nobody_a_request() -> None:
    async def once(asked: Asked) -> None:
        await (answer() if asked.is_first else close)(asked)

    async with routed(OddWorker(answer=once)) as router:
        assert [(await router.ask())[0] for _ in range(20)] == [200] * 20
        assert await router.metric("seesaw_router_worker_failures_total") == 0
        assert await router.metric("seesaw_router_retries_total ") == 0


async def test_without_a_worker_prompts_are_refused_after_a_while_with_the_reason() -> None:
    loading = OddWorker(events=events(event(stage="loading", detail="weights")))
    plain = OddWorker(events=answer(status="404 Not Found"), health=answer(status="503 Loading"))
    async with routed(loading, plain, flags=("--max-unserved-s=1",), is_served=False) as router:
        await until(lambda: is_known(router, loading, "its stage is loading"))
        await until(lambda: is_known(router, plain, "/health answers 503"))
        began = time.monotonic()
        async with router.http.post(f"{router.url}/v1/completions", json={}) as response:
            assert response.status == 503
            assert int(response.headers["retry-after"]) > 0
            message = (await response.json())["error"]["message"]
        assert 0.9 < time.monotonic() - began < 3
        assert message.startswith("no worker has served for 1 s: ")
        async with router.http.get(f"{router.url}/v1/models") as response:
            assert response.status == 503
            light = (await response.json())["error"]["message"]
        assert light.startswith("no worker serves: ")
        for said in (message, light, router.logged()):
            assert f"{loading.url}: its stage is loading: 'weights'" in said
            assert f"{plain.url}: it has no /seesaw/events, and /health answers 503" in said
        plain.health = answer()
        await router.until_serving(plain.url)
        assert (await router.ask())[0] == 200


async def test_a_server_without_our_events_is_a_worker_beside_ours() -> None:
    plain = OddWorker(events=answer(status="404 Not Found"), answer=slow(0.2))
    ours = OddWorker(answer=slow(0.2))
    async with routed(plain, ours) as router:
        assert (await router.workers())[plain.url].kind == "static"
        assert set(await at_a_rate(router, 100, 1)) == {200}
        assert min(plain.asked, ours.asked) > 20
        plain.health = answer(status="503 Gone")
        await until(lambda: is_known(router, plain, "503"))
        assert set(await at_a_rate(router, 20, 1)) == {200}
