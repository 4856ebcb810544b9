"""A queue of resources to look at: each at most once, by one worker at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from seesaw_core.errors import SeesawError
from seesaw_flags.logs import ABOUT
from seesaw_operator.cluster.store import Key

logger = logging.getLogger(__name__)

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 60.0
_AT_ONCE = 16


class WorkQueue:
    """Runs a function for each key that is added, again if it was added meanwhile; a few at once.

    After a failure the key comes back, each time after twice the time, up to a minute.
    """

    def __init__(self, work: Callable[[Key], Awaitable[None]]) -> None:
        self._work = work
        self._wanted: set[Key] = set()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._failures: dict[Key, int] = {}
        self._later: dict[Key, asyncio.TimerHandle] = {}

    def add(self, key: Key) -> None:
        """Look at it as soon as may be."""
        later = self._later.pop(key, None)
        if later is not None:
            later.cancel()
        self._wanted.add(key)
        if key not in self._running:
            self._running[key] = asyncio.create_task(self._run(key))

    def add_later(self, key: Key, delay_s: float) -> None:
        """Look at it after a while, unless it is looked at before."""
        if key not in self._later:
            loop = asyncio.get_running_loop()
            self._later[key] = loop.call_later(delay_s, self.add, key)

    async def close(self) -> None:
        """Stop, in the middle of whatever is being done."""
        for later in self._later.values():
            later.cancel()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: Key) -> None:
        ABOUT.set(str(key))
        try:
            while key in self._wanted:
                async with self._slots:
                    self._wanted.discard(key)
                    await self._look(key)
        finally:
            del self._running[key]

    async def _look(self, key: Key) -> None:
        try:
            await self._work(key)
            self._failures.pop(key, None)
        except Exception as error:  # the next attempt may succeed; nothing else may stop
            count = self._failures[key] = self._failures.get(key, 0) + 1
            delay_s = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (count - 1))
            logger.warning(
                "%s; again in %.0f s",
                error,
                delay_s,
                exc_info=not isinstance(error, SeesawError),
            )
            self.add_later(key, delay_s)
