"""Asks an endpoint with the official client, streaming and not; answers as a line of JSON.

Usage: ask.py URL MODEL, with a list of {prompt, params} as JSON on standard input.
"""

import asyncio
import json
import sys
from typing import Any

from openai import AsyncOpenAI


async def main(url: str, model: str, samples: list[dict[str, Any]]) -> None:
    client = AsyncOpenAI(base_url=url, api_key="none", timeout=600)

    async def ask(sample: dict[str, Any]) -> list[int]:
        answer = await client.completions.create(
            model=model, prompt=sample["prompt"], **_params(sample)
        )
        return list(answer.choices[0].model_extra["token_ids"])

    async def stream(sample: dict[str, Any]) -> list[int]:
        tokens: list[int] = []
        async for chunk in await client.completions.create(
            model=model, prompt=sample["prompt"], stream=True, **_params(sample)
        ):
            tokens += chunk.choices[0].model_extra["token_ids"] or ()
        return tokens

    whole = await asyncio.gather(*map(ask, samples))
    streamed = await asyncio.gather(*map(stream, samples))
    print(json.dumps({"whole": whole, "streamed": streamed}))


def _params(sample: dict[str, Any]) -> dict[str, Any]:
    """What the client has no arguments for goes into the body as it is."""
    params = dict(sample["params"])
    extra = {"ignore_eos": params.pop("ignore_eos", False), "return_token_ids": True}
    return params | {"extra_body": extra}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.load(sys.stdin)))
