"""No spelling of a path reaches what the router does not pass on."""

import json

from support.fake_worker.odd import Asked, OddWorker, answer
from support.fake_worker.raw_client import ask, request, status_of
from support.fake_worker.router import router_before

ANSWER = answer()
DISGUISED = [
    "/pause",
    "/metrics/",
    "/v1/../pause?mode=abort",
    "/v1/%2e%2e/collective_rpc",
    "/v1/..%2fpause",
    "/v1/..%5cpause",
    "/v1/..\\pause",
    "/version/../metrics",
    "/v1/./models",
    "/v1//models",
    "//v1/models",
    "/v1/%6dodels",
    "/v1/models/",
    "/v1/models;x=1",
    "/v1/models%00",
    "/v1/models%3f",
    "/V1/models",
    "/v1/responses/..",
    "/v1/responses/../pause/cancel",
    "/v1/responses/%2e%2e/cancel",
    "/v1/responses/a/b/cancel",
    "/v1/responses/a/cancel/",
    "http://x/v1/../pause",
    "http://x/pause",
    "http:///pause",
    "/v1/load_lora_adapter",
    "/inference/v1/abort_requests",
    "/tokenize/../sleep",
    "/versions",
    "/static/x",
    "/" + "a" * 4000,
    "*",
    "?x",
    "x",
]


async def test_only_listed_routes_as_they_are_spelled_reach_a_worker() -> None:
    reached: list[str] = []

    async def note(asked: Asked) -> None:
        reached.append(asked.path)
        await ANSWER(asked)

    async with OddWorker(answer=note).running() as worker, router_before(worker.url) as router:
        await router.until_serving(worker.url)
        for method in ("POST", "GET", "OPTIONS", "DELETE"):
            for target in DISGUISED:
                got = await ask(router.url, request(target, method=method))
                assert status_of(got) in (400, 404, 405, 414), (method, target, got)
                assert "error" in json.loads(got.partition(b"\r\n\r\n")[2]), (method, target)
        assert reached == []
        for target in ("/v1/completions?x=/../%2e", "http://x/v1/completions?a#b"):
            assert status_of(await ask(router.url, request(target))) == 200
        assert reached == ["/v1/completions?x=/../%2e", "/v1/completions?a"]


OTHERS = [
    ("GET /v1/realtime HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", 501),
    ("CONNECT /v1/models HTTP/1.1\r\n", 405),
    ("DELETE /v1/models HTTP/1.1\r\nConnection: close\r\n", 405),
    ("GET /v1/models HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n", 200),
]


async def test_other_protocols_and_methods_get_a_reason() -> None:
    async with OddWorker().running() as worker, router_before(worker.url) as router:
        await router.until_serving(worker.url)
        for head, status in OTHERS:
            got = await ask(router.url, f"{head}Host: x\r\n\r\n".encode())
            assert status_of(got) == status, got
