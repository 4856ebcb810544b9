"""What the benchmark asks of every subject, by vLLM's engine client, in the same way."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from seesaw_bench.worker.decoding import random_prompt, steady_decode

_numbers = itertools.count()


def commands(llm: AsyncLLM) -> dict[str, Callable[..., Awaitable[Any]]]:
    """Return the commands by their names."""

    async def ready() -> dict[str, Any]:
        return {}

    async def first_token(tokens: int, name: str = "bench") -> dict[str, float]:
        began = time.perf_counter()
        await _generate(llm, _prompt(tokens), 1, name)
        return {"s": time.perf_counter() - began}

    async def decode(batch: int, context: int, tokens: int, name: str = "bench") -> dict[str, Any]:
        prompts = [_prompt(context - tokens // 2) for _ in range(batch)]
        return await steady_decode(llm, prompts=prompts, max_tokens=tokens, name=name)

    async def beside(short: dict[str, float], long_tokens: int) -> dict[str, Any]:
        return await _beside(llm, short, long_tokens)

    return {"ready": ready, "first_token": first_token, "decode": decode, "beside": beside}


def _prompt(num_tokens: int) -> list[int]:
    return random_prompt(random.Random(), num_tokens)


async def _generate(llm: AsyncLLM, prompt: list[int], max_tokens: int, name: str) -> list[float]:
    """Return when each token came. Units: seconds of ``time.perf_counter``."""
    params = SamplingParams(
        temperature=0.0,
        max_tokens=max_tokens,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
    arrivals: list[float] = []
    request_id = f"{name}-{next(_numbers)}"
    async for output in llm.generate({"prompt_token_ids": prompt}, params, request_id):
        arrivals += [time.perf_counter()] * len(output.outputs[0].token_ids)
    return arrivals


async def _beside(llm: AsyncLLM, short: dict[str, float], long_tokens: int) -> dict[str, Any]:
    """Send short requests at equal distances; if ``long_tokens``, with a long prompt among them.

    short: ``number`` of requests, ``every_s`` seconds apart, of ``prompt`` and ``tokens`` tokens.
    The long prompt follows the first quarter of them. Each short request that is under way while
    the long prompt is prefilled counts, and so do all without a long prompt. Its time per token and
    its longest gap include the wait for the first.
    """
    prompt, tokens = int(short["prompt"]), int(short["tokens"])
    spans: list[tuple[float, list[float]]] = []

    async def one(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        began = time.perf_counter()
        spans.append((began, await _generate(llm, _prompt(prompt), tokens, "bench")))

    async def long(delay_s: float) -> tuple[float, float]:
        await asyncio.sleep(delay_s)
        began = time.perf_counter()
        arrivals = await _generate(llm, _prompt(long_tokens), 1, "bench")
        return began, arrivals[0]

    number, every_s = int(short["number"]), short["every_s"]
    tasks = [asyncio.create_task(one(i * every_s)) for i in range(number)]
    began, ended = 0.0, float("inf")
    if long_tokens:
        began, ended = await long(number // 4 * every_s)
    await asyncio.gather(*tasks)
    counted = [(at, ends) for at, ends in spans if ends[-1] > began and at < ended]
    gaps = [b - a for at, ends in counted for a, b in itertools.pairwise((at, *ends))]
    return {
        "long_s": ended - began if long_tokens else 0.0,
        "token_s": sum(ends[-1] - at for at, ends in counted) / (len(counted) * tokens),
        "longest_gap_s": max(gaps),
        "first_token_s": sum(ends[0] - at for at, ends in counted) / len(counted),
        "requests": len(counted),
    }
