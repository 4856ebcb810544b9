"""The workers behind a router: what each is doing, as its follower keeps it up to date."""

import asyncio
import dataclasses
import heapq
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf
from types import TracebackType
from typing import Self

from seesaw_core.messages import ModeName, Stage, TransitionEvent, WorkerState
from seesaw_core.rates import Mean
from seesaw_core.resharding.policy import Phase
from seesaw_core.routing.waves import Replica
from seesaw_router.dispatch.connections import Connections

logger = logging.getLogger(__name__)

_SAME_NEWS_S = 60.0
_KIND_CHARACTERS = 60
_MOST_KINDS = 32
_MOST_LINGERING = 1024
_LONGEST_LINGER_S = 10.0
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A worker's address. ``is_going``: it finishes what it has and takes nothing new."""

    name: str
    url: str
    is_going: bool = False


class Backend:
    """One worker: what it said last, and what runs there. It reads nothing from the network.

    Call order: any, from one event loop. Its follower calls :meth:`take`, :meth:`be_static`,
    :meth:`heard` and :meth:`lose`, the dispatcher :meth:`sent` and :meth:`ended`.
    """

    def __init__(
        self,
        target: Target,
        connections: Connections,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.connections = connections
        self.num_running = 0
        self.last_sent = -1  # the number of the last request that went there
        self.share = 1.0
        self._lingering: list[float] = []  # a heap of times, until when
        self.state: WorkerState | None = None
        self.is_static = False
        self.doubt: Callable[[], None] = lambda: None
        self._trouble = "it has not answered yet"
        self._logged: str | None = None
        self._told: dict[str, float] = {}
        self._on_change = on_change
        self._now = clock
        self._heard_s = clock()
        self._asked: set[Asked] = set()
        self._is_looking = False
        self._pending: dict[int, int] = {}  # prompt tokens sent and not yet in any state
        self._window_began_s: float | None = None
        self._cycle = Mean()

    @property
    def mode(self) -> str:
        """How it serves, by its own words; `static` if it is no worker of ours."""
        return self.state.mode if self.state else ModeName.STATIC

    @property
    def phase(self) -> Phase | None:
        """Whose turn on its devices it is; None if it has no phases."""
        part = self.state.resharding if self.state else None
        return None if part is None else part.phase

    @property
    def is_serving(self) -> bool:
        return not self.why_not_serving

    @property
    def why_not_serving(self) -> str:
        """Why it takes no requests; empty if it does."""
        if self.target.is_going:
            return "it is going"
        if self._trouble or self.state is None:
            return self._trouble
        if self.state.stage is not Stage.SERVING:
            return f"its stage is {self.state.stage}: {self.state.detail[:200]!a}"
        return ""

    @property
    def silent_s(self) -> float:
        """How long nothing at all has come from it."""
        return self._now() - self._heard_s

    def sent(self, number: int, tokens: int) -> None:
        """A request goes there."""
        self.num_running += 1
        self.last_sent = number
        self._pending[number] = tokens

    def ended(self, number: int) -> None:
        """A request has ended, however."""
        self.num_running -= 1
        self._pending.pop(number, None)

    def linger(self, for_s: float) -> None:
        """A request that failed at once counts as running for as long as others do run.

        Least busy must not mean fastest to fail.
        """
        if for_s > 0 and len(self._lingering) < _MOST_LINGERING:
            heapq.heappush(self._lingering, self._now() + min(for_s, _LONGEST_LINGER_S))

    @property
    def num_busy(self) -> int:
        """How busy it counts as, where the least busy one is wanted."""
        now = self._now()
        while self._lingering and self._lingering[0] <= now:
            heapq.heappop(self._lingering)
        return ceil((self.num_running + len(self._lingering)) / self.share)

    def heard(self) -> None:
        """Something came from it."""
        self._heard_s = self._now()

    def take(self, event: WorkerState | TransitionEvent) -> None:
        """It told its state, or a transition."""
        if isinstance(event, WorkerState):
            self.state, self.is_static, self._trouble = event, False, ""
            self._pending.clear()
        elif self.state is not None and self.state.resharding is not None:
            part = dataclasses.replace(self.state.resharding, phase=event.to)
            self.state = dataclasses.replace(self.state, resharding=part)
            if event.to is Phase.PREFILL:
                now = self._now()
                if self._window_began_s is not None:
                    self._cycle.observe(now - self._window_began_s)
                self._window_began_s = now
        self._changed()

    def be_static(self) -> None:
        """It is healthy, and has no phases to tell of."""
        self.state, self.is_static, self._trouble = None, True, ""
        self._pending.clear()
        self._changed()

    def lose(self, trouble: str) -> None:
        """Nothing more goes there until it tells its state again."""
        self.state, self.is_static, self._trouble = None, False, trouble
        self._changed()

    def replica(self) -> Replica:
        """Snapshot of this worker for the wave policy."""
        state, began = self.state, self._window_began_s
        part = None if state is None else state.resharding
        if state is None or part is None or part.buffer is None:
            return Replica(
                name=self.target.name,
                phase=Phase.DECODE,
                num_running=self.num_busy,
                free_tokens=0,
                capacity_tokens=0,
                has_windows=False,
            )
        buffer = part.buffer
        free = buffer.blocks.free * buffer.block_size - state.waiting_tokens
        return Replica(
            name=self.target.name,
            phase=part.phase,
            num_running=self.num_busy,
            free_tokens=max(0, free),
            capacity_tokens=buffer.blocks.capacity * buffer.block_size,
            pending_tokens=sum(self._pending.values()),
            window_age_s=None if began is None else self._now() - began,
            cycle_s=self._cycle.seconds,
        )

    def begin_asking(self, asked: "Asked") -> None:
        """Something is asked of it, and looked at twice a second until :meth:`end_asking`."""
        self._asked.add(asked)
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def end_asking(self, asked: "Asked") -> None:
        """It is asked no more."""
        self._asked.remove(asked)

    def break_off(self) -> None:
        """End whatever is asked of it, now."""
        for asked in list(self._asked):
            asked.end()

    def _look(self) -> None:
        self._is_looking = bool(self._asked)
        if self._is_looking:
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)
        for asked in list(self._asked):
            asked.look()

    def _changed(self) -> None:
        reason = self.why_not_serving
        if reason != self._logged and self._is_news(reason):
            self._logged = reason
            if reason:
                logger.warning("worker %s does not serve: %s", self.target.name, reason)
            else:
                logger.info("worker %s serves", self.target.name)
        self._on_change()

    def _is_news(self, reason: str) -> bool:
        """Whether to log it now: each kind once a minute, and what still holds then."""
        kind, now = reason.partition(":")[0][:_KIND_CHARACTERS], self._now()
        if now - self._told.get(kind, -inf) < _SAME_NEWS_S:
            return False
        if len(self._told) >= _MOST_KINDS:
            self._told.clear()
        self._told[kind] = now
        return True


class Asked:
    """A context inside which something is asked of a worker.

    Raises: ConnectionResetError, once it was ended.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._scope = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        self._backend.begin_asking(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._backend.end_asking(self)
        try:
            await self._scope.__aexit__(kind, error, trace)
        except TimeoutError as ended:
            raise ConnectionResetError(f"{self._backend.target.name} has vanished") from ended

    def look(self) -> None:
        """See whether all is well. Called twice a second, by one timer for a worker."""

    def end(self) -> None:
        """Break it off, unless it is already."""
        if not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())
