"""Steady load on an endpoint, a connection a request and no retries; a line of counts a second.

Short requests at a steady rate, and beside them a few streams of ten seconds, one after the other.

Usage: load.py URL MODEL REQUESTS_PER_SECOND
"""

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections import Counter

import aiohttp

_MAX_TOKENS = 20
_STREAMS = 4
_STREAM_TOKENS = 1500


async def main(url: str, model: str, per_s: float) -> None:
    counts: Counter[str] = Counter()
    errors: list[str] = []
    slowest_s = 0.0

    async def ask(http: aiohttp.ClientSession, number: int) -> None:
        nonlocal slowest_s
        body = {"model": model, "prompt": f"question {number}", "max_tokens": _MAX_TOKENS}
        began = time.monotonic()
        try:
            async with http.post(f"{url}/completions", json=body) as response:
                answer = await response.json(content_type=None)
                if response.status != 200:
                    raise ValueError(f"{response.status}: {answer}")
                assert answer["choices"][0]["text"]
            counts["ok"] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed request
            counts["failed"] += 1
            errors.append(f"{number} after {time.monotonic() - began:.2f} s: {error!r}"[:300])
        slowest_s = max(slowest_s, time.monotonic() - began)

    async def stream(http: aiohttp.ClientSession, lane: int) -> None:
        for number in itertools.count():
            body = {"model": model, "prompt": f"{lane} {number}", "max_tokens": _STREAM_TOKENS}
            chunks = 0
            try:
                async with http.post(f"{url}/completions", json=body | {"stream": True}) as answer:
                    answer.raise_for_status()
                    async for line in answer.content:
                        chunks += line.startswith(b"data: {")
                counts["streams" if chunks == _STREAM_TOKENS else "cut"] += 1
            except aiohttp.ClientError as error:
                counts["cut"] += 1
                errors.append(f"stream {lane} {number} after {chunks} chunks: {error!r}"[:300])

    async def tell() -> None:
        while True:
            await asyncio.sleep(1)
            told = dict(counts) | {"slowest_s": round(slowest_s, 2), "errors": errors[-5:]}
            print(json.dumps(told), flush=True)

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=120)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(tell())
        for lane in range(_STREAMS):
            tasks.create_task(stream(http, lane))
        number = 0
        while True:
            tasks.create_task(ask(http, number))
            number += 1
            counts["sent"] = number
            await asyncio.sleep(1 / per_s)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
