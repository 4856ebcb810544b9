"""Sends the demo's requests to a worker, and records what the worker reports meanwhile."""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seesaw_core.event_stream import EventParser
from seesaw_core.layouts import Layout
from seesaw_core.messages import TimelineEvent, TransitionEvent, WorkerState
from seesaw_core.reading import read_event, read_state

_SAMPLE_EVERY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of the demo. Units: ``at_s`` seconds after the first."""

    prompt: list[int]
    params: dict[str, Any]
    at_s: float


@dataclass(slots=True, kw_only=True)
class Recording:
    """What the worker answered and reported. Units: seconds since the first request.

    ``began_unix_s`` is when that was; the times inside a timeline are Unix seconds.
    """

    tokens: list[list[int]] = field(default_factory=list)
    samples: list[tuple[float, WorkerState]] = field(default_factory=list)
    transitions: list[tuple[float, TransitionEvent]] = field(default_factory=list)
    timelines: list[TimelineEvent] = field(default_factory=list)
    began_unix_s: float = 0.0
    seconds: float = 0.0
    final: WorkerState | None = None

    def take(self, event: object, at_s: float) -> None:
        """Record an event of the worker's stream."""
        if isinstance(event, TransitionEvent):
            self.transitions.append((at_s, event))
        elif isinstance(event, TimelineEvent):
            self.timelines.append(event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """One form of the demo: what is served, to which requests, and how it is shown.

    ``flags`` are the worker's; ``reference`` and ``reference_engine`` are plain vLLM's layout and
    engine arguments. ``make_requests`` takes their number and a seed. ``progress`` puts a state
    into words, ``summary`` a recording into JSON, and ``rows`` that into a table.
    """

    about: str
    picture: str
    num_requests: int
    flags: tuple[str, ...]
    reference: Layout
    reference_engine: dict[str, Any]
    make_requests: Callable[[int, int], list[Request]]
    progress: Callable[[WorkerState, Recording], str]
    summary: Callable[[Recording], dict[str, Any]]
    rows: Callable[[dict[str, Any]], dict[str, str]]
    draw: Callable[[Recording, Path], None]


def as_flags(engine: dict[str, Any]) -> tuple[str, ...]:
    """Return engine arguments as flags of ``seesaw worker``."""
    return tuple(f"--{name.replace('_', '-')}={value}" for name, value in engine.items())


async def drive(
    url: str,
    model: str,
    requests: list[Request],
    progress: Callable[[WorkerState, Recording], str],
) -> Recording:
    """Send all requests, each at its time. ``progress`` puts a state into words.

    Raises: RuntimeError if the worker refuses one.
    """
    import aiohttp

    recording = Recording(tokens=[[] for _ in requests], began_unix_s=time.time())
    began = time.monotonic()
    done = 0

    async def ask(http: aiohttp.ClientSession, index: int, request: Request) -> None:
        nonlocal done
        await asyncio.sleep(request.at_s)
        body = {"model": model, "prompt": request.prompt, "return_token_ids": True}
        async with http.post(f"{url}/v1/completions", json=body | request.params) as response:
            answer = await response.json()
            if response.status != 200:
                raise RuntimeError(f"request {index} failed: {answer}")
        recording.tokens[index] = answer["choices"][0]["token_ids"]
        done += 1

    async def state_of(http: aiohttp.ClientSession) -> WorkerState:
        async with http.get(f"{url}/seesaw/state") as response:
            return read_state(await response.read())

    async def watch(http: aiohttp.ClientSession) -> None:
        shown = time.monotonic()
        while True:
            state = await state_of(http)
            recording.samples.append((time.monotonic() - began, state))
            if time.monotonic() - shown > 1.0:
                shown = time.monotonic()
                say(f"{done}/{len(requests)} done | {progress(state, recording)}")
            await asyncio.sleep(_SAMPLE_EVERY_S)

    async def follow(http: aiohttp.ClientSession) -> None:
        parser = EventParser()
        async with http.get(f"{url}/seesaw/events", timeout=None) as response:
            async for chunk in response.content.iter_any():
                for event in parser.feed(chunk, time.monotonic()):
                    recording.take(read_event(*event), time.monotonic() - began)

    timeout = aiohttp.ClientTimeout(total=600)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        watching = [asyncio.create_task(watch(http)), asyncio.create_task(follow(http))]
        await asyncio.gather(*(ask(http, i, r) for i, r in enumerate(requests)))
        recording.seconds = time.monotonic() - began
        await _until_reported(recording)
        for task in watching:
            task.cancel()
        recording.final = await state_of(http)
    return recording


async def _until_reported(recording: Recording) -> None:
    """Wait for the last spans of an elastic worker, which come a moment after the answers."""
    if recording.samples and recording.samples[-1][1].elastic is None:
        return
    known = -1
    while known < len(recording.timelines):
        known = len(recording.timelines)
        await asyncio.sleep(1.5)


def say(text: str) -> None:
    """Tell people what happens."""
    print(f"seesaw demo: {text}", file=sys.stderr, flush=True)
