"""A queue of resources to reconcile: each is queued at most once and reconciled by one task."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable

from seesaw_core.errors import SeesawError
from seesaw_flags.logs import ABOUT
from seesaw_operator.cluster.store import Key

logger = logging.getLogger(__name__)

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 60.0
_AT_ONCE = 64
_AT_ONCE_OF_NAMESPACE = 16  # whose calls may all hang, for example at a webhook
_CALM_S = 5.0  # after a failure, changes of a resource's objects wait that long


class WorkQueue:
    """Runs a function for each key that is added, and again if the key is added meanwhile.

    The number of concurrent calls is bounded. After a failure the key is retried with exponential
    backoff, up to a minute.
    """

    def __init__(self, work: Callable[[Key], Awaitable[None]]) -> None:
        self._work = work
        self._wanted: set[Key] = set()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._slots_of: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(_AT_ONCE_OF_NAMESPACE)
        )
        self._failures: dict[Key, int] = {}
        self._calm_until_s: dict[Key, float] = {}
        self._later: dict[Key, asyncio.TimerHandle] = {}

    def touch(self, key: Key) -> None:
        """Reconcile soon, because an object of the resource has changed.

        Within seconds of a failure this waits: pods change often, and retries at each change would
        burden an overloaded apiserver further.
        """
        now_s = asyncio.get_running_loop().time()
        left_s = self._calm_until_s.get(key, 0.0) - now_s
        if left_s <= 0:
            self.add(key)
            return
        later = self._later.get(key)
        if later is not None and later.when() > now_s + left_s:
            self._later.pop(key).cancel()
        self.add_later(key, left_s)

    def add(self, key: Key) -> None:
        """Reconcile as soon as possible."""
        later = self._later.pop(key, None)
        if later is not None:
            later.cancel()
        self._wanted.add(key)
        if key not in self._running:
            self._running[key] = asyncio.create_task(self._run(key))

    def add_later(self, key: Key, delay_s: float) -> None:
        """Reconcile after a delay, unless the key is reconciled before."""
        if key not in self._later:
            loop = asyncio.get_running_loop()
            self._later[key] = loop.call_later(delay_s, self.add, key)

    async def close(self) -> None:
        """Cancel everything that is queued or running."""
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
                async with self._slots_of[key.namespace], self._slots:
                    self._wanted.discard(key)
                    await self._look(key)
        finally:
            del self._running[key]

    async def _look(self, key: Key) -> None:
        try:
            await self._work(key)
            self._failures.pop(key, None)
            self._calm_until_s.pop(key, None)
        except Exception as error:  # the next attempt may succeed; nothing else may stop
            count = self._failures[key] = self._failures.get(key, 0) + 1
            delay_s = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (count - 1))
            logger.warning(
                "%s; again in %.0f s",
                error,
                delay_s,
                exc_info=not isinstance(error, SeesawError),
            )
            loop = asyncio.get_running_loop()
            self._calm_until_s[key] = loop.time() + min(delay_s, _CALM_S)
            self.add_later(key, delay_s)
