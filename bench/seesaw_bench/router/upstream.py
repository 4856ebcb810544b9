"""The engine behind every proxy of the benchmark: answers at once, or a chunk at a time.

Run as a process of its own: ``python -m seesaw_bench.router.upstream PORT``. The prompt says what
to do: ``now``, or ``CHUNKS EVERY_MS`` for a stream.
"""

import asyncio
import json
import sys

from aiohttp import web

from seesaw_core.messages import (
    VERSION,
    BufferState,
    ModeName,
    PathTotals,
    ReshardingState,
    Stage,
    WorkerState,
)
from seesaw_core.resharding.ledger import LedgerTotals
from seesaw_core.resharding.policy import Phase
from seesaw_core.writing import as_json

_CHUNK = (
    b'data: {"id":"cmpl-1","object":"text_completion","created":1,"model":"bench",'
    b'"choices":[{"index":0,"text":" token","logprobs":null,"finish_reason":null}]}\n\n'
)
_ANSWER = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "bench",
    "choices": [{"index": 0, "text": " token", "logprobs": None, "finish_reason": "length"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
_BLOCKS = LedgerTotals(capacity=4096, free=4096, reserved=0, stored=0, loading=0)
_STATE = WorkerState(
    version=VERSION,
    mode=ModeName.RESHARDING,
    stage=Stage.SERVING,
    detail="",
    num_waiting=0,
    waiting_tokens=0,
    resharding=ReshardingState(
        phase=Phase.DECODE,
        phase_age_s=0.0,
        reason="no prompt waits",
        prefill_layout="P2",
        decode_layout="T2",
        reshard="auto",
        num_prefilling=0,
        num_decoding=0,
        transitions=0,
        seconds_by_phase={},
        buffer=BufferState(block_size=32, block_bytes=65536, blocks=_BLOCKS),
        paths=PathTotals(),
    ),
)


async def completions(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    if not body.get("stream"):
        return web.json_response(_ANSWER)
    count, every_ms = map(float, body["prompt"].split())
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(int(count)):
        await response.write(_CHUNK)
        await asyncio.sleep(every_ms / 1000)
    await response.write(b"data: [DONE]\n\n")
    return response


async def events(request: web.Request) -> web.StreamResponse:
    """What a Seesaw router follows."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    state = json.dumps(as_json(_STATE)).encode()
    while True:
        await response.write(b"event: state\ndata: " + state + b"\n\n")
        await asyncio.sleep(1.0)


def main() -> None:
    app = web.Application()
    app.router.add_post("/v1/completions", completions)
    app.router.add_get("/seesaw/events", events)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
