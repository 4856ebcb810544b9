"""Workers are asked over HTTP, and what they say is summed up."""

import dataclasses
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler

from seesaw_core.messages import PlanSummary
from seesaw_operator.cluster.store import Key, Ref
from seesaw_operator.status.measure import Meter
from support.fake_worker.engine import Engine, application
from support.fake_worker.pods import followed, pod
from support.resource_status.fake_cluster import KEY


async def test_what_all_ready_workers_say_is_summed_up_and_a_change_is_told() -> None:
    engines = [Engine("m", 0.0), Engine("m", 0.0), Engine("m", 0.0)]
    store = followed()
    changed: list[Key] = []
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    now = 100.0
    async with aiohttp.ClientSession() as http:
        servers = [TestServer(application(engine)) for engine in engines]
        for index, server in enumerate(servers):
            await server.start_server()
            store.put_child(pod(f"w-{index}", server))
        store.put_child(pod("w-2", servers[2], conditions=[]))  # it still loads
        meter = Meter(store, http, on_change=changed.append, clock=lambda: now)
        for engine in engines:
            engine.output_tokens, engine.requests, engine.running = 1000, 3, 2
        await meter.measure_all()
        first = meter.of(KEY)
        assert first is not None
        assert (first.transitions, first.running_requests, first.tokens_per_second) == (12, 4, 0)
        now = 110.0
        await meter.measure_all()
        assert changed == [KEY], "nothing new is not told"
        for engine in engines:
            engine.output_tokens = 2000
        now = 120.0
        await meter.measure_all()
        second = meter.of(KEY)
        assert second is not None
        assert second.tokens_per_second == 100  # two workers, 1000 tokens each in 20 s
        assert changed == [KEY, KEY]
        now = 130.0
        engines[0].output_tokens = 0  # it has started anew
        await meter.measure_all()
        third = meter.of(KEY)
        assert third is not None
        assert 0 <= third.tokens_per_second <= 50
        for server in servers:
            await server.close()


async def test_figures_beyond_what_the_apiserver_takes_are_kept_within_it() -> None:
    store = followed()
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    engines = [Engine("m", 0.0), Engine("m", 0.0)]
    async with aiohttp.ClientSession() as http:
        servers = [TestServer(application(engine)) for engine in engines]
        for index, (engine, server) in enumerate(zip(engines, servers, strict=True)):
            engine.running, engine.requests = 2**63 - 1, 2**62 - 1
            await server.start_server()
            store.put_child(pod(f"w-{index}", server))
        meter = Meter(store, http, on_change=lambda _: None)
        await meter.measure_all()
        found = meter.of(KEY)
        for server in servers:
            await server.close()
    assert found is not None
    assert (found.running_requests, found.transitions) == (2**63 - 1, 2**63 - 1)
    assert 0 <= found.buffer_used_percent <= 100


ODD: dict[str, tuple[dict[str, Any] | str, str]] = {
    "no JSON": ("no JSON", ""),
    "no object": ("[]", ""),
    "nothing in it": ("{}", ""),
    "a number that is text": ({"num_waiting": "3"}, ""),
    "a negative number": ({"resharding": {"transitions": -1}}, ""),
    "a huge number": ({"finished": {"requests": 10**400}}, ""),
    "a plan that is none": ({"plan": {"proposed": 3}}, ""),
    "an answer without end": ({"padding": "x" * 1_000_000}, ""),
    "metrics without end": ({}, "# x\n" * 1_000_000 + "vllm:generation_tokens_total 1\n"),
    "metrics that are none": ({}, "{"),
    "metrics at which the parser stumbles": ({}, 'a{Nx="1", ="z"} 3\n'),
    "no number of tokens": ({}, "vllm:generation_tokens_total NaN\n"),
    "infinite tokens": ({}, "vllm:generation_tokens_total +Inf\n"),
}


async def test_a_container_that_a_user_adds_is_not_asked() -> None:
    store = followed()
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    ours, added = Engine("m", 0.0), Engine("m", 0.0)
    ours.running, added.running = 2, 40
    server, other = (TestServer(application(engine)) for engine in (ours, added))
    async with aiohttp.ClientSession() as http, server, other:
        worker = pod("w-0", server)
        port = {"containerPort": other.port}
        worker["spec"]["containers"].append({"name": "added", "ports": [port]})
        store.put_child(worker)
        meter = Meter(store, http, on_change=lambda _: None)
        await meter.measure_all()
    measured = meter.of(KEY)
    assert measured is not None
    assert measured.running_requests == 2


@pytest.mark.parametrize("name", ODD)
async def test_a_pod_that_is_no_worker_of_ours_stops_nobody(name: str) -> None:
    said, metrics = ODD[name]

    @web.middleware
    async def odd(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        assert isinstance(answer, web.Response)
        if request.path == "/metrics":
            return web.Response(text=metrics) if metrics else answer
        state = said
        if isinstance(said, dict):
            state = json.dumps(json.loads(answer.text or "") | said)
        return web.Response(text=str(state), content_type="application/json")

    app = application(Engine("m", 0.0))
    app.middlewares.append(odd)
    store = followed()
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    now = 100.0
    async with aiohttp.ClientSession() as http:
        server = TestServer(app)
        await server.start_server()
        store.put_child(pod("odd", server))
        meter = Meter(store, http, on_change=lambda _: None, clock=lambda: now)
        await meter.measure_all()
        now = 110.0
        await meter.measure_all()
        assert meter.of(KEY) is None
        await server.close()


async def test_a_pod_that_only_has_our_labels_stops_nobody() -> None:
    store = followed()
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    server = TestServer(application(Engine("m", 0.0)))
    async with aiohttp.ClientSession() as http, server:
        copied = pod("debug", server)
        del copied["spec"]["containers"][0]["ports"]
        store.put_child(copied)
        store.put_child(pod("w", server))
        meter = Meter(store, http, on_change=lambda _: None)
        await meter.measure_all()
    assert meter.of(KEY) is not None


async def test_what_was_measured_goes_with_the_last_worker() -> None:
    store = followed()
    changed: list[Key] = []
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    async with aiohttp.ClientSession() as http:
        server = TestServer(application(Engine("m", 0.0)))
        await server.start_server()
        store.put_child(pod("w", server))
        meter = Meter(store, http, on_change=changed.append)
        await meter.measure_all()
        assert meter.of(KEY) is not None
        store.drop_child(Ref("Pod", "team", "w"))
        await meter.measure_all()
        assert meter.of(KEY) is None
        assert changed == [KEY, KEY]
        await server.close()


async def test_that_nobody_serves_is_news_after_a_restart() -> None:
    """The status may hold figures of workers that went while no operator was there."""
    store = followed()
    changed: list[Key] = []
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    async with aiohttp.ClientSession() as http:
        meter = Meter(store, http, on_change=changed.append)
        await meter.measure_all()
        await meter.measure_all()
    assert changed == [KEY]


PLAN = PlanSummary(
    prefill="P2",
    decode="T2",
    reason="because",
    predicted_tokens_per_s=100,
    num_running=8,
)


async def test_the_error_of_the_prediction_is_told_while_there_is_load_enough() -> None:
    store = followed()
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    engines = [Engine("m", 0.0), Engine("m", 0.0)]
    now = 100.0
    async with aiohttp.ClientSession() as http:
        servers = [TestServer(application(engine)) for engine in engines]
        for index, server in enumerate(servers):
            await server.start_server()
            store.put_child(pod(f"w-{index}", server))
        meter = Meter(store, http, on_change=lambda _: None, clock=lambda: now)

        async def error_after(output_tokens: int) -> int | None:
            nonlocal now
            now += 10.0
            for engine in engines:
                engine.output_tokens += output_tokens
            await meter.measure_all()
            measured = meter.of(KEY)
            assert measured is not None
            return measured.prediction_error_percent

        for engine in engines:
            engine.running, engine.plan = 8, PLAN
        assert await error_after(0) is None, "nothing is measured yet"
        assert await error_after(800) == -20
        engines[0].running = 7
        assert await error_after(800) is None, "one worker has less to do than is predicted for"
        engines[0].running = 8
        for engine in engines:  # the requests that came are others than those planned for
            engine.plan = dataclasses.replace(PLAN, expected_tokens_per_s=40)
        assert await error_after(800) == 100
        for engine in engines:
            engine.plan = None
        assert await error_after(800) is None, "layouts set by hand are not predicted"
        for server in servers:
            await server.close()


async def test_neither_rounding_nor_a_missed_answer_is_told_as_an_error() -> None:
    store = followed()
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    engines = [Engine("m", 0.0), Engine("m", 0.0)]
    now, stumbles = 100.0, False

    @web.middleware
    async def stumble(request: web.Request, handler: Handler) -> web.StreamResponse:
        if stumbles:
            raise web.HTTPServiceUnavailable
        return await handler(request)

    async with aiohttp.ClientSession() as http:
        stumbling = application(engines[1])
        stumbling.middlewares.append(stumble)
        servers = [TestServer(application(engines[0])), TestServer(stumbling)]
        for index, server in enumerate(servers):
            await server.start_server()
            store.put_child(pod(f"w-{index}", server))
        meter = Meter(store, http, on_change=lambda _: None, clock=lambda: now)
        for engine in engines:
            engine.running = 8
            engine.plan = dataclasses.replace(PLAN, predicted_tokens_per_s=1051)
        errors = []
        for number in range(5):
            now, stumbles = now + 10.0, number == 2
            for engine in engines:
                engine.output_tokens += 10_490
            await meter.measure_all()
            measured = meter.of(KEY)
            assert measured is not None
            errors.append(measured.prediction_error_percent)
        assert errors == [None, 0, 0, 0, 0]
        for server in servers:
            await server.close()


async def test_the_plan_is_the_first_workers_and_a_change_of_it_is_told() -> None:
    store = followed()
    changed: list[Key] = []
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    engines = [Engine("m", 0.0), Engine("m", 0.0)]
    async with aiohttp.ClientSession() as http:
        servers = [TestServer(application(engine)) for engine in engines]
        for name, server in zip(("w-1", "w-0"), servers):
            await server.start_server()
            store.put_child(pod(name, server))
        meter = Meter(store, http, on_change=changed.append)
        engines[0].plan = dataclasses.replace(PLAN, reason="second")
        engines[1].plan = PLAN
        assert meter.plan_of(KEY) is None
        await meter.measure_all()
        plan = meter.plan_of(KEY)
        assert plan is not None
        assert plan.reason == "because"
        engines[1].plan = dataclasses.replace(PLAN, reason="another")
        await meter.measure_all()
        assert changed == [KEY, KEY]
        for server in servers:
            await server.close()


async def test_a_worker_that_does_not_answer_is_left_out() -> None:
    store = followed()
    store.put_resource({"metadata": {"name": "llama", "namespace": "team"}})
    async with aiohttp.ClientSession() as http:
        good, bad = (TestServer(application(Engine("m", 0.0))) for _ in range(2))
        await good.start_server()
        await bad.start_server()
        store.put_child(pod("good", good))
        store.put_child(pod("bad", bad))
        await bad.close()
        meter = Meter(store, http, on_change=lambda _: None)
        await meter.measure_all()
        measured = meter.of(KEY)
        assert measured is not None
        assert measured.transitions == 0
        await good.close()
