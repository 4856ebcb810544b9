"""So many requests at a time on an endpoint, all of the same lengths; a line of counts a second.

Usage: steady.py URL MODEL CONCURRENCY PROMPT_TOKENS OUTPUT_TOKENS
"""

import asyncio
import contextlib
import json
import random
import sys
from collections import Counter

import aiohttp


async def main(url: str, model: str, concurrency: int, prompt_tokens: int, tokens: int) -> None:
    counts: Counter[str] = Counter()
    errors: list[str] = []

    async def ask(http: aiohttp.ClientSession) -> None:
        prompt = [random.randrange(10, 800) for _ in range(prompt_tokens)]
        body = {"model": model, "prompt": prompt, "max_tokens": tokens, "ignore_eos": True}
        try:
            async with http.post(f"{url}/completions", json=body) as response:
                answer = await response.json(content_type=None)
                if response.status != 200 or answer["usage"]["completion_tokens"] != tokens:
                    raise ValueError(f"{response.status}: {answer}")
            counts["ok"] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed request
            counts["failed"] += 1
            errors.append(repr(error)[:300])
            await asyncio.sleep(1)

    async def lane(http: aiohttp.ClientSession) -> None:
        while True:
            await ask(http)

    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=300)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(concurrency):
            tasks.create_task(lane(http))
        while True:
            await asyncio.sleep(1)
            print(json.dumps(dict(counts) | {"errors": errors[-5:]}), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2], *(int(n) for n in sys.argv[3:6])))
