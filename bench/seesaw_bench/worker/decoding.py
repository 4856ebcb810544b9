"""Measures steady decode throughput in the same way on every engine client of vLLM."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

_IDS = range(10, 800)
_numbers = itertools.count()

During = Callable[[], Awaitable[None]]


def random_prompt(rng: random.Random, num_tokens: int) -> list[int]:
    return [rng.choice(_IDS) for _ in range(num_tokens)]


@dataclass(slots=True, kw_only=True)
class Batch:
    """Requests that decode together. Units: seconds of ``time.perf_counter``.

    ``name`` begins the names of the requests.

    Call order: :meth:`start`, then wait for ``all_decoding``, then :meth:`join` or :meth:`cancel`.
    """

    llm: AsyncLLM
    prompts: list[list[int]]
    max_tokens: int
    name: str = "bench"
    all_decoding: asyncio.Event = field(default_factory=asyncio.Event)
    first_ended: asyncio.Event = field(default_factory=asyncio.Event)
    _arrivals: list[tuple[float, int]] = field(default_factory=list)
    _num_begun: int = 0
    _began_s: float = 0.0
    _ended_s: float = 0.0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._one(prompt)) for prompt in self.prompts]

    async def join(self) -> None:
        await asyncio.gather(*self._tasks)

    async def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def result(self) -> dict[str, Any]:
        """Return the rate between the last request's first token and the first request's end."""
        window_s = self._ended_s - self._began_s
        if window_s <= 0:
            raise RuntimeError("the first request ended before the last began: decode more tokens")
        tokens = sum(n for at, n in self._arrivals if self._began_s < at <= self._ended_s)
        return {
            "tokens_per_s": tokens / window_s,
            "step_s": window_s * len(self.prompts) / tokens,
            "window_s": window_s,
        }

    async def _one(self, prompt: list[int]) -> None:
        params = SamplingParams(
            temperature=0.0,
            max_tokens=self.max_tokens,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        begun = False
        request_id = f"{self.name}-{next(_numbers)}"
        async for output in self.llm.generate({"prompt_token_ids": prompt}, params, request_id):
            now = time.perf_counter()
            self._arrivals.append((now, len(output.outputs[0].token_ids)))
            if not begun:
                begun = True
                self._num_begun += 1
                if self._num_begun == len(self.prompts):
                    self._began_s = now
                    self.all_decoding.set()
        if not self.first_ended.is_set():
            self._ended_s = time.perf_counter()
            self.first_ended.set()


async def steady_decode(
    llm: AsyncLLM,
    *,
    prompts: list[list[int]],
    max_tokens: int,
    during: During | None = None,
    name: str = "bench",
) -> dict[str, Any]:
    """Decode one batch. ``during`` runs only while all of its requests decode."""
    batch = Batch(llm=llm, prompts=prompts, max_tokens=max_tokens, name=name)
    batch.start()
    if during is not None:
        await batch.all_decoding.wait()
        work = asyncio.ensure_future(during())
        await batch.first_ended.wait()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    await batch.join()
    return batch.result()
