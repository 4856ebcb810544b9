"""One run: every proxy in turn, round by round, on the same upstream."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
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
    requests: int = 2000
    concurrency: int = 32
    probes: int = 400
    streams: int = 32
    chunks: int = 300
    chunk_every_ms: float = 20.0
    open_streams: int = 2000

    @classmethod
    def quick(cls) -> "Workload":
        return cls(rounds=1, requests=100, probes=50, streams=4, chunks=20, open_streams=50)


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
        for subject in subjects[first:] + subjects[:first]:
            await _requests(subject, measured)
            await _latency(subject, direct, measured)
            await _streams(subject, measured)
            if number == 0:  # memory that a process has had, it keeps
                await _open_streams(subject, measured)
    return measured


async def _requests(subject: Subject, measured: Measured) -> None:
    """Processor time a request, from many at a time."""
    work = measured.workload
    async with _session(work.concurrency) as http:
        await _many(http, subject.url, work.requests // 10, work.concurrency)
        before, began = subject.cpu_s(), time.monotonic()
        await _many(http, subject.url, work.requests, work.concurrency)
        seconds = time.monotonic() - began
        cpu_s = subject.cpu_s() - before
    measured.note(
        subject.name,
        request_ms=1e3 * cpu_s / work.requests,
        requests_per_s=work.requests / seconds,
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


async def _streams(subject: Subject, measured: Measured) -> None:
    """Processor time a chunk: a stream's, less that of a request."""
    work = measured.workload
    async with _session(work.streams) as http:
        before = subject.cpu_s()
        await asyncio.gather(
            *(
                _stream(http, subject.url, f"{work.chunks} {work.chunk_every_ms}")
                for _ in range(work.streams)
            )
        )
        cpu_s = subject.cpu_s() - before
    requests_s = work.streams * measured.figures[subject.name]["request_ms"][-1] / 1e3
    chunks = work.streams * work.chunks
    measured.note(subject.name, chunk_us=1e6 * max(0.0, cpu_s - requests_s) / chunks)


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
