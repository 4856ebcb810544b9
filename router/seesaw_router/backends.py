"""The workers behind a router: what each is doing, as its event stream tells."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

from seesaw_core.policy import Phase
from seesaw_core.rates import Mean
from seesaw_core.waves import Replica

logger = logging.getLogger(__name__)

_RETRY_S = 0.5
_SILENCE_S = 5.0  # the stream tells the state each second
_DEAD_S = 30.0  # no busy worker is silent for so long; a vanished node says nothing at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A worker's address. ``is_going``: it finishes what it has and takes nothing new."""

    name: str
    url: str
    is_going: bool = False


class Backend:
    """One worker, followed through its ``/seesaw/events``.

    Requests to a worker that has vanished without a word, with its node, are broken off, so that
    they can go elsewhere.

    Call order: :meth:`follow` as a task; the rest from the same event loop.
    """

    def __init__(
        self,
        target: Target,
        http: aiohttp.ClientSession,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.http = http
        self.num_running = 0
        self.state: dict[str, Any] | None = None
        self._on_change = on_change
        self._now = clock
        self._heard_s = clock()
        self._asking: set[asyncio.Timeout] = set()
        self._pending: dict[int, int] = {}  # prompt tokens sent and not yet in any state
        self._window_began_s: float | None = None
        self._cycle = Mean()

    @property
    def is_serving(self) -> bool:
        return (
            not self.target.is_going and self.state is not None and self.state["stage"] == "serving"
        )

    def sent(self, number: int, tokens: int) -> None:
        """A request goes there."""
        self.num_running += 1
        self._pending[number] = tokens

    def ended(self, number: int) -> None:
        """A request has ended, however."""
        self.num_running -= 1
        self._pending.pop(number, None)

    def lost(self) -> None:
        """A connection there failed: nothing more goes there until it tells its state again."""
        self.state = None
        self._on_change()

    def replica(self) -> Replica:
        """It as the wave policy sees it. Requires: it serves."""
        assert self.state is not None
        buffer = self.state["buffer"]
        blocks = buffer["blocks"] if buffer else {"free": 0, "capacity": 0}
        block_size = buffer["block_size"] if buffer else 0
        free = blocks["free"] * block_size - self.state["waiting_tokens"]
        began = self._window_began_s
        return Replica(
            name=self.target.name,
            phase=Phase(self.state["phase"]),
            num_running=self.num_running,
            free_tokens=max(0, free),
            capacity_tokens=blocks["capacity"] * block_size,
            pending_tokens=sum(self._pending.values()),
            window_age_s=None if began is None else self._now() - began,
            cycle_s=self._cycle.seconds,
        )

    async def follow(self) -> None:
        """Keep the state up to date for ever."""
        while True:
            try:
                await self._follow_once()
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                logger.debug("worker %s: %r", self.target.name, error)
            if self.state is not None:
                logger.info("worker %s does not answer", self.target.name)
            self.lost()
            if self.num_running and self._now() - self._heard_s > _DEAD_S:
                logger.warning("worker %s is gone: breaking off its requests", self.target.name)
                self.break_off()
            await asyncio.sleep(_RETRY_S)

    @contextlib.asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        """Inside, something is asked of it. Raises: ConnectionError once it is broken off."""
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._asking.add(scope)
                try:
                    yield
                finally:
                    self._asking.discard(scope)
        except TimeoutError as error:
            if scope.expired():
                raise ConnectionResetError(f"{self.target.name} has vanished") from error
            raise

    def break_off(self) -> None:
        """End whatever is asked of it, now."""
        for scope in list(self._asking):
            scope.reschedule(asyncio.get_running_loop().time())

    async def _follow_once(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0, sock_read=_SILENCE_S)
        url = f"{self.target.url}/seesaw/events"
        async with self.http.get(url, timeout=timeout) as response:
            response.raise_for_status()
            kind = ""
            async for line in response.content:
                self._heard_s = self._now()
                if line.startswith(b"event: "):
                    kind = line[7:].decode().strip()
                elif line.startswith(b"data: "):
                    self._take(kind, json.loads(line[6:]))

    def _take(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "state":
            self.state = data
            self._pending.clear()
        elif kind == "transition" and self.state is not None:
            self.state["phase"] = data["to"]
            if data["to"] == Phase.PREFILL:
                now = self._now()
                if self._window_began_s is not None:
                    self._cycle.observe(now - self._window_began_s)
                self._window_began_s = now
        self._on_change()


class Backends:
    """All workers that are known.

    Call order: :meth:`become` whenever they change; :meth:`close` at the end.
    """

    def __init__(self, http: aiohttp.ClientSession, on_change: Callable[[], None]) -> None:
        self._http = http
        self._on_change = on_change
        self._known: dict[str, Backend] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def become(self, targets: Iterable[Target]) -> None:
        """Follow these workers and no others."""
        wanted = {t.name: t for t in targets}
        for name in self._known.keys() - wanted.keys():
            self._forget(name)
        for name, target in wanted.items():
            known = self._known.get(name)
            if known is not None and known.target.url == target.url:
                known.target = target
                continue
            if known is not None:
                self._forget(name)
            backend = Backend(target, self._http, self._on_change)
            self._known[name] = backend
            self._tasks[name] = asyncio.create_task(backend.follow())
        self._on_change()

    def serving(self) -> list[Backend]:
        return [b for b in self._known.values() if b.is_serving]

    def named(self, name: str) -> Backend:
        return self._known[name]

    def all(self) -> list[Backend]:
        return list(self._known.values())

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for name in list(self._known):
            self._forget(name)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, name: str) -> None:
        self._tasks.pop(name).cancel()
        self._known.pop(name).break_off()
