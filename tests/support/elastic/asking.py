"""Asks a worker for the tokens of samples, all at once."""

import asyncio

import aiohttp

from seesaw_cli.serve.local import LocalWorker
from seesaw_worker.modes.static.reference import Sample


async def tokens_of(worker: LocalWorker, samples: list[Sample]) -> list[list[int]]:
    """Return the tokens in the order of the samples. Raises: AssertionError for a refusal."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=300)) as http:

        async def ask(sample: Sample) -> list[int]:
            body = {"model": worker.model, "prompt": sample.prompt, "return_token_ids": True}
            url = f"{worker.url}/v1/completions"
            async with http.post(url, json=body | sample.params) as response:
                answer = await response.json()
                assert response.status == 200, answer
                tokens: list[int] = answer["choices"][0]["token_ids"]
                return tokens

        return await asyncio.gather(*(ask(sample) for sample in samples))
