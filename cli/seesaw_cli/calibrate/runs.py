"""Timed runs of the real worker for ``seesaw calibrate``: requests that are sent at once."""

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from seesaw_cli.serve.local import LocalWorker
from seesaw_core.errors import BrokenError
from seesaw_core.layouts import LayoutPair
from seesaw_core.planner.workloads import Request

_REPEATS = 5  # of each run under one worker; the median counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How to start workers on this machine. Units in the names; ``longest`` in tokens.

    ``pool_bytes`` is the KV pool of each CPU rank, which has no device memory for vLLM to measure.
    """

    model: Path
    dtype: str
    on_cpu: bool
    longest: int
    pool_bytes: int
    step_tokens: int
    max_requests: int
    buffer_gib: float
    flush_timeout_s: float
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Requests that are sent at once."""

    name: str
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The times of one worker: the repeats of each run, and the mean transition of its sweep.

    ``transition_s`` is None if the worker did not re-shard.
    """

    sweep: dict[Run, list[float]]
    checks: dict[Run, list[float]]
    transition_s: float | None


def measure(machine: Machine, system: LayoutPair, sweep: list[Run], checks: list[Run]) -> Result:
    """Start a worker, warm it up, and time each run under it, all runs in turn.

    Raises: EngineDiedError; BrokenError if a request failed.
    """
    machine.log.unlink(missing_ok=True)
    with LocalWorker(machine.model, _flags(machine, system), log=machine.log) as worker:
        return asyncio.run(_measure(worker, sweep, checks))


def _flags(machine: Machine, system: LayoutPair) -> list[str]:
    flags = [
        f"--decode-tensor-parallel-size={system.decode.tensor}",
        f"--decode-pipeline-parallel-size={system.decode.pipeline}",
        f"--max-model-len={machine.longest}",
        f"--max-num-seqs={machine.max_requests}",
        f"--max-num-batched-tokens={machine.step_tokens}",
        f"--dtype={machine.dtype}",
        "--generation-config=vllm",
        "--no-enable-prefix-caching",
    ]
    if machine.on_cpu:
        flags += ["--enforce-eager", f"--kv-cache-memory-bytes={machine.pool_bytes}"]
    if system.is_static:
        return [*flags, "--reshard=never"]
    if machine.on_cpu:
        # On the CPU vLLM packs the weights of the static engines, so the pair's must be packed too.
        flags.append("--weights=resident")
    return [
        *flags,
        f"--prefill-tensor-parallel-size={system.prefill.tensor}",
        f"--prefill-pipeline-parallel-size={system.prefill.pipeline}",
        "--reshard=always",
        f"--flush-timeout-s={machine.flush_timeout_s}",
        f"--kv-buffer-gib={machine.buffer_gib}",
    ]


async def _measure(worker: LocalWorker, sweep: list[Run], checks: list[Run]) -> Result:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=600)
    # One connection per request: the server may be closing a connection that is used again.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
        for run in (*sweep, *checks):
            await _send(http, worker, run.requests[: len(run.requests) // 4 + 1])
        swept: dict[Run, list[float]] = {run: [] for run in sweep}
        checked: dict[Run, list[float]] = {run: [] for run in checks}
        seconds, count = 0.0, 0.0
        for _ in range(_REPEATS):  # all runs in turn, since the machine's speed drifts
            before = await _transitions(http, worker)
            for run, times in swept.items():
                times.append(await _send(http, worker, run.requests))
            after = await _transitions(http, worker)
            seconds, count = seconds + after[0] - before[0], count + after[1] - before[1]
            for run, times in checked.items():
                times.append(await _send(http, worker, run.requests))
    for run, times in (*swept.items(), *checked.items()):
        say(f"  {run.name}: {median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")
    return Result(sweep=swept, checks=checked, transition_s=seconds / count if count else None)


async def _send(http: Any, worker: LocalWorker, requests: Sequence[Request]) -> float:
    """Send requests at once. Returns the seconds until all of them are answered."""
    rng = random.Random(time.monotonic_ns())  # new prompts each time, so that no cache helps

    async def ask(request: Request) -> None:
        body = {
            "model": worker.model,
            "prompt": [rng.randrange(10, 800) for _ in range(request.prompt_tokens)],
            "max_tokens": request.output_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
        }
        async with http.post(f"{worker.url}/v1/completions", json=body) as response:
            answer = await response.json()
            if response.status != 200:
                raise BrokenError(f"a request failed: {answer}")

    began = time.monotonic()
    await asyncio.gather(*(ask(r) for r in requests))
    return time.monotonic() - began


async def _transitions(http: Any, worker: LocalWorker) -> tuple[float, float]:
    """Read the worker's metrics: seconds in which neither engine could step, and transitions."""
    async with http.get(f"{worker.url}/metrics") as response:
        text = await response.text()
    sums = {"sum": 0.0, "count": 0.0}
    for line in text.splitlines():
        for kind in sums:
            if line.startswith(f"seesaw_transition_seconds_{kind}{{") and (
                'part="weights"' in line or 'part="resume"' in line
            ):
                if kind == "count" and 'part="resume"' in line:
                    continue
                sums[kind] += float(line.rsplit(" ", 1)[1])
    return sums["sum"], sums["count"]


def say(line: str) -> None:
    """Print progress to standard error."""
    print(f"seesaw calibrate: {line}", file=sys.stderr, flush=True)
