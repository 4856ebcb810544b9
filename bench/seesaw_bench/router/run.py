"""One run: every proxy in turn, round by round, on the same upstream.

Processor time is measured in short slices, a slice of each proxy in turn, so that what else the
machine does meanwhile falls on all of them alike.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import quantiles

import aiohttp

from seesaw_bench.router.subjects import Subject

_BODY = {"model": "bench", "max_tokens": 1}
_NO_TIMEOUT = aiohttp.ClientTimeout(total=600)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """How much is asked of each proxy in a round. Units in the names."""

    rounds: int = 3
    slices: int = 10
    requests: int = 2000
    concurrency: int = 32
    probes: int = 400
    streams: int = 32
    chunks: int = 300
    chunk_every_ms: float = 20.0
    open_streams: int = 2000

    @classmethod
    def quick(cls) -> "Workload":
        return cls(
            rounds=1, slices=1, requests=100, probes=50, streams=4, chunks=20, open_streams=50
        )


@dataclass(slots=True, kw_only=True)
class Measured:
    """``figures`` holds a list by subject and figure, a value each round."""

    workload: Workload
    figures: defaultdict[str, defaultdict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def note(self, subject: str, **values: float) -> None:
        for name, value in values.items():
            self.figures[subject][name].append(value)


async def measure(subjects: list[Subject], direct: str, work: Workload, say: Say) -> Measured:
    """Measure all. ``direct`` is the upstream's own address, for what a proxy adds."""
    measured = Measured(workload=work)
    for number in range(work.rounds):
        say(f"round {number + 1} of {work.rounds}")
        first = number % len(subjects)
        order = subjects[first:] + subjects[:first]
        await _requests(order, measured)
        for subject in order:
            await _latency(subject, direct, measured)
        await _streams(order, measured)
        if number == 0:  # memory that a process has had, it keeps
            for subject in order:
                await _open_streams(subject, measured)
    return measured


async def _requests(subjects: list[Subject], measured: Measured) -> None:
    """Processor time a request, from many at a time."""
    work = measured.workload
    each = work.requests // work.slices
    cpu_s, seconds = defaultdict[str, float](float), defaultdict[str, float](float)
    async with AsyncExitStack() as stack:
        https = [await stack.enter_async_context(_session(work.concurrency)) for _ in subjects]
        for http, subject in zip(https, subjects, strict=True):
            await _many(http, subject.url, work.requests // 10, work.concurrency)
        for _ in range(work.slices):
            for http, subject in zip(https, subjects, strict=True):
                before, began = subject.cpu_s(), time.monotonic()
                await _many(http, subject.url, each, work.concurrency)
                seconds[subject.name] += time.monotonic() - began
                cpu_s[subject.name] += subject.cpu_s() - before
    for name in cpu_s:
        count = each * work.slices
        measured.note(
            name, request_ms=1e3 * cpu_s[name] / count, requests_per_s=count / seconds[name]
        )


async def _latency(subject: Subject, direct: str, measured: Measured) -> None:
    """What a proxy adds to one request at a time, against asking the upstream itself in turn."""
    seen: dict[str, list[float]] = {"direct": [], "through": []}
    async with _session(1) as http:
        for _ in range(measured.workload.probes):
            for way, url in (("direct", direct), ("through", subject.url)):
                began = time.perf_counter()
                await _ask(http, url)
                seen[way].append(time.perf_counter() - began)
    for name, at in (("p50", 49), ("p99", 98)):
        of = {way: quantiles(times, n=100)[at] for way, times in seen.items()}
        measured.note(subject.name, **{f"added_{name}_ms": 1e3 * (of["through"] - of["direct"])})


async def _streams(subjects: list[Subject], measured: Measured) -> None:
    """Processor time a chunk: a stream's, less that of a request."""
    work = measured.workload
    each = work.chunks // work.slices
    cpu_s = defaultdict[str, float](float)
    async with AsyncExitStack() as stack:
        https = [await stack.enter_async_context(_session(work.streams)) for _ in subjects]
        for http, subject in zip(https, subjects, strict=True):  # opens the connections
            await _many(http, subject.url, work.streams, work.streams)
        for _ in range(work.slices):
            for http, subject in zip(https, subjects, strict=True):
                before = subject.cpu_s()
                streams = (
                    _stream(http, subject.url, f"{each} {work.chunk_every_ms}")
                    for _ in range(work.streams)
                )
                await asyncio.gather(*streams)
                cpu_s[subject.name] += subject.cpu_s() - before
    num_streams = work.streams * work.slices
    for name, total_s in cpu_s.items():
        requests_s = num_streams * measured.figures[name]["request_ms"][-1] / 1e3
        chunk_s = max(0.0, total_s - requests_s) / (num_streams * each)
        measured.note(name, chunk_us=1e6 * chunk_s)


async def _open_streams(subject: Subject, measured: Measured) -> None:
    """Memory that many open streams take."""
    work = measured.workload
    before, connections = subject.memory_bytes(), subject.num_connections()
    async with _session(0) as http:
        opened = 0

        async def hold() -> None:
            nonlocal opened
            body = _BODY | {"stream": True, "prompt": "2 30000"}
            async with http.post(f"{subject.url}/v1/completions", json=body) as response:
                response.raise_for_status()
                await response.content.readany()
                opened += 1
                await response.content.readany()

        tasks = []
        for _ in range(work.open_streams):
            tasks.append(asyncio.create_task(hold()))
            await asyncio.sleep(0.002)
        async with asyncio.timeout(300):
            while opened < work.open_streams:
                failed = [t for t in tasks if t.done()]
                if failed:
                    await failed[0]
                await asyncio.sleep(0.05)
        after = subject.memory_bytes()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    measured.note(
        subject.name,
        open_mib=after / 2**20,
        stream_kib=(after - before) / work.open_streams / 1024,
    )
    async with asyncio.timeout(120):  # some notice that a client has gone only as they send
        while subject.num_connections() > connections + work.streams:
            await asyncio.sleep(0.2)


def _session(limit: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=limit), timeout=_NO_TIMEOUT)


async def _many(http: aiohttp.ClientSession, url: str, count: int, concurrency: int) -> None:
    left = iter(range(count))

    async def one_after_the_other() -> None:
        for _ in left:
            await _ask(http, url)

    await asyncio.gather(*(one_after_the_other() for _ in range(concurrency)))


async def _ask(http: aiohttp.ClientSession, url: str) -> None:
    async with http.post(f"{url}/v1/completions", json=_BODY | {"prompt": "now"}) as response:
        response.raise_for_status()
        await response.read()


async def _stream(http: aiohttp.ClientSession, url: str, prompt: str) -> None:
    body = _BODY | {"stream": True, "prompt": prompt}
    async with http.post(f"{url}/v1/completions", json=body) as response:
        response.raise_for_status()
        async for _ in response.content.iter_any():
            pass
