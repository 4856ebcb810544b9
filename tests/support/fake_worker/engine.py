"""A stand-in for a worker, with its HTTP contract, deterministic answers and no model.

It passes ``tests/integration/router/test_worker_contract.py``, which a real worker passes too.
Run it as a program; SIGTERM drains it as it drains a worker.
"""

import argparse
import asyncio
import dataclasses
import hashlib
import json
import signal
import time
from typing import Any

from aiohttp import web

from seesaw_core.messages import (
    VERSION,
    BufferState,
    ElasticState,
    ModeName,
    PathTotals,
    PlanSummary,
    ReshardingState,
    Stage,
    WorkerState,
)
from seesaw_core.resharding.ledger import LedgerTotals
from seesaw_core.resharding.policy import Phase
from seesaw_core.writing import as_json

BLOCKS, BLOCK_SIZE, BLOCK_BYTES = 1024, 16, 65536
VOCABULARY = 900


class Engine:
    """The state of the stand-in."""

    def __init__(self, model: str, token_s: float) -> None:
        self.model = model
        self.token_s = token_s
        self.stage = Stage.SERVING
        self.running = 0
        self.output_tokens = 0
        self.requests = 0
        self.began_s = time.monotonic()
        self.plan: PlanSummary | None = None
        self.elastic: ElasticState | None = None  # in place of re-sharding

    def state(self) -> dict[str, Any]:
        free = BLOCKS - self.running if self.running < BLOCKS else 0
        state = WorkerState(
            version=VERSION,
            mode=ModeName.RESHARDING,
            stage=self.stage,
            detail="",
            num_waiting=0,
            waiting_tokens=0,
            plan=self.plan,
            resharding=ReshardingState(
                phase=Phase.DECODE,
                phase_age_s=time.monotonic() - self.began_s,
                reason="no prompt waits",
                prefill_layout="P2",
                decode_layout="T2",
                reshard="auto",
                num_prefilling=0,
                num_decoding=self.running,
                transitions=2 * self.requests,
                seconds_by_phase={},
                buffer=BufferState(
                    block_size=BLOCK_SIZE,
                    block_bytes=BLOCK_BYTES,
                    blocks=LedgerTotals(
                        capacity=BLOCKS, free=free, reserved=0, stored=BLOCKS - free, loading=0
                    ),
                ),
                paths=PathTotals(),
            ),
        )
        if self.elastic is not None:
            state = dataclasses.replace(
                state, mode=ModeName.ELASTIC, resharding=None, elastic=self.elastic
            )
        return as_json(state)

    def token(self, prompt: str, index: int) -> int:
        digest = hashlib.sha256(f"{prompt} {index}".encode()).digest()
        return int.from_bytes(digest[:4]) % VOCABULARY


def application(engine: Engine) -> web.Application:
    """Return an application with all routes of the contract."""
    app = web.Application(client_max_size=64 << 20)

    async def health(_: web.Request) -> web.Response:
        return web.Response(status=200 if engine.stage is Stage.SERVING else 503)

    async def state(_: web.Request) -> web.Response:
        return web.json_response(engine.state())

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        while engine.stage is Stage.SERVING:
            data = json.dumps(engine.state())
            await response.write(f"event: state\ndata: {data}\n\n".encode())
            await asyncio.sleep(0.2)
        return response

    async def metrics(_: web.Request) -> web.Response:
        text = (
            "# TYPE vllm:generation_tokens_total counter\n"
            f"vllm:generation_tokens_total {engine.output_tokens}\n"
        )
        return web.Response(text=text)

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": engine.model}]})

    async def generate(request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
            prompt = json.dumps(body.get("messages", body.get("prompt")))
            count = int(body.get("max_tokens") or 16)
        except (ValueError, AttributeError) as error:
            return _error(400, f"the body is no JSON object of this API: {error}")
        if body.get("model") not in (None, engine.model):
            return _error(404, f"The model `{body['model']}` does not exist.")
        return await answer(request, engine, body, prompt, count)

    app.router.add_get("/health", health)
    app.router.add_get("/seesaw/state", state)
    app.router.add_get("/seesaw/events", events)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/completions", generate)
    app.router.add_post("/v1/chat/completions", generate)
    return app


async def answer(
    request: web.Request, engine: Engine, body: dict[str, Any], prompt: str, count: int
) -> web.StreamResponse:
    """Answer token by token, as a stream or as one response."""
    is_chat = request.path.endswith("chat/completions")
    name = hashlib.sha256(prompt.encode()).hexdigest()[:16]
    head = {"id": f"cmpl-{name}", "model": engine.model, "created": 0}
    engine.running += 1
    engine.requests += 1
    try:
        if not body.get("stream"):
            words = [await _word(engine, prompt, i) for i in range(count)]
            text = "".join(words)
            content: dict[str, Any] = (
                {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
            )
            choice = content | {"index": 0, "finish_reason": "length"}
            usage = {"completion_tokens": count}
            return web.json_response(head | {"choices": [choice], "usage": usage})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for index in range(count):
            text = await _word(engine, prompt, index)
            content = {"delta": {"content": text}} if is_chat else {"text": text}
            finish = "length" if index == count - 1 else None
            chunk = head | {"choices": [content | {"index": 0, "finish_reason": finish}]}
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response
    finally:
        engine.running -= 1


async def _word(engine: Engine, prompt: str, index: int) -> str:
    await asyncio.sleep(engine.token_s)
    engine.output_tokens += 1
    return f" t{engine.token(prompt, index)}"


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


async def serve(host: str, port: int, engine: Engine) -> None:
    """Serve until SIGTERM, then finish running requests."""
    runner = web.AppRunner(
        application(engine), access_log=None, handler_cancellation=True, shutdown_timeout=600
    )
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    engine.stage = Stage.DRAINING
    for site in list(runner.sites):
        await site.stop()
    while engine.running:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="stand-in")
    parser.add_argument("--served-model-name", default=None)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--token-s", type=float, default=0.005)
    args, _ = parser.parse_known_args()
    engine = Engine(args.served_model_name or args.model, args.token_s)
    asyncio.run(serve(args.host, args.port, engine))


if __name__ == "__main__":
    main()
