"""One request to one worker, as objects of this process."""

import gc
import json
import weakref
from typing import Any

from aiohttp.test_utils import TestServer
from multidict import CIMultiDict

from seesaw_router.dispatch.backend import Backend, Target
from seesaw_router.dispatch.connections import open_connections
from seesaw_router.server.exchange import Exchange, Message
from seesaw_router.server.routes import match
from seesaw_router.server.worker_call import WorkerCall
from support.fake_worker.engine import Engine, application


async def test_a_request_that_has_ended_leaves_nothing_for_the_garbage_collector() -> None:
    """It runs a tenth as often here: what waits for it, waits long, with bodies and answers."""
    path = "/v1/completions"
    scope: dict[str, Any] = {"method": "POST", "query_string": b"", "raw_path": path.encode()}
    body = json.dumps({"model": "m", "prompt": "x", "max_tokens": 2}).encode()

    async def send(_: Message) -> None:
        pass

    engine = Engine("m", 0.0001)
    async with TestServer(application(engine)) as server, open_connections() as connections:
        target = Target(name="a", url=str(server.make_url("")).rstrip("/"))
        backend = Backend(target, connections, on_change=lambda: None)
        headers = CIMultiDict({"content-type": "application/json"})
        gc.disable()
        try:
            exchange = Exchange(scope, match("POST", path), headers, body, send)
            async with WorkerCall(exchange, backend, 10.0) as call:
                assert json.loads(await call.whole())["usage"]["completion_tokens"] == 2
            left = [weakref.ref(each) for each in (exchange, call, call.response)]
            del exchange, call
            assert [ref() for ref in left] == [None, None, None]
        finally:
            gc.enable()
