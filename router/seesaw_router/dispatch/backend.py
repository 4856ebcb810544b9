"""The router's view of one worker, kept up to date by a follower."""

import dataclasses
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from seesaw_core.messages import ModeName, Stage, TransitionEvent, WorkerState
from seesaw_core.resharding.policy import Phase
from seesaw_core.routing.pools import Pool
from seesaw_core.routing.waves import Intake, Replica
from seesaw_core.routing.windows import PrefillWindows
from seesaw_router.dispatch.connections import Connections
from seesaw_router.dispatch.in_flight import Call, Calls
from seesaw_router.dispatch.serving_log import ServingLog

# How old an elastic worker's figures may be as it reports them: it asks its engine twice a second.
_ELASTIC_AGE_S = 0.6
_MAX_LINGERING = 1024
_LONGEST_LINGER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A worker's address. ``is_draining``: it finishes its requests and takes no new ones."""

    name: str
    url: str
    is_draining: bool = False


class Backend:
    """One worker: its latest state, and the requests that run there. It does no I/O.

    Call order: any, from one event loop. The follower calls :meth:`update`, :meth:`mark_static`,
    :meth:`heard` and :meth:`mark_lost`, the dispatcher :meth:`sent` and :meth:`ended`.
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
        self.calls = Calls(target.name)
        self.num_running = 0
        self.last_sent = -1  # the number of the last request that went there
        self.share = 1.0
        self._lingering: list[float] = []  # a heap of the times at which each one ends
        self.state: WorkerState | None = None
        self.is_static = False
        self.check_health: Callable[[], None] = lambda: None
        self._trouble = "it has not answered yet"
        self._log = ServingLog(target.name)
        self._on_change = on_change
        self._now = clock
        self._heard_s = clock()
        # Prompt tokens sent and not yet in any state, and when they were sent.
        self._pending: dict[int, tuple[int, float]] = {}
        self._windows = PrefillWindows()

    @property
    def mode(self) -> str:
        """The mode that the worker reports; ``static`` if it reports no state."""
        return self.state.mode if self.state else ModeName.STATIC

    @property
    def phase(self) -> Phase | None:
        """The phase that has the devices; None if the worker has no phases."""
        part = self.state.resharding if self.state else None
        return None if part is None else part.phase

    @property
    def is_serving(self) -> bool:
        return not self.why_not_serving

    @property
    def why_not_serving(self) -> str:
        """Why the worker takes no requests; an empty string if it takes them."""
        if self.target.is_draining:
            return "it is draining"
        if self._trouble or self.state is None:
            return self._trouble
        if self.state.stage is not Stage.SERVING:
            return f"its stage is {self.state.stage}: {self.state.detail[:200]!a}"
        return ""

    @property
    def silent_s(self) -> float:
        """Seconds since anything was received from the worker."""
        return self._now() - self._heard_s

    def sent(self, number: int, tokens: int) -> None:
        """Count a request that is sent to this worker."""
        self.num_running += 1
        self.last_sent = number
        self._pending[number] = (tokens, self._now())

    def ended(self, number: int) -> None:
        """Stop counting a request, which has ended in whatever way."""
        self.num_running -= 1
        self._pending.pop(number, None)

    def linger(self, for_s: float) -> None:
        """Count a failed request as running for as long as requests usually run.

        Otherwise the worker that fails fastest would be the least busy one.
        """
        if for_s > 0 and len(self._lingering) < _MAX_LINGERING:
            heapq.heappush(self._lingering, self._now() + min(for_s, _LONGEST_LINGER_S))

    @property
    def num_busy(self) -> int:
        """The load by which the least busy worker is chosen: requests, divided by its share."""
        now = self._now()
        while self._lingering and self._lingering[0] <= now:
            heapq.heappop(self._lingering)
        return ceil((self.num_running + len(self._lingering)) / self.share)

    def heard(self) -> None:
        """Note that something was received from the worker."""
        self._heard_s = self._now()

    def update(self, event: WorkerState | TransitionEvent) -> None:
        """Apply a state or a transition that the worker has reported."""
        if isinstance(event, WorkerState):
            self.state, self.is_static, self._trouble = event, False, ""
            self._forget_pending(event)
        elif self.state is not None and self.state.resharding is not None:
            part = dataclasses.replace(self.state.resharding, phase=event.to)
            self.state = dataclasses.replace(self.state, resharding=part)
            if event.to is Phase.PREFILL:
                self._windows.opened(self._now())
        self._changed()

    def _forget_pending(self, state: WorkerState) -> None:
        """Forget the prompts that a state counts already.

        Elastic workers report what their engine said a while ago, which lacks the newest prompts.
        """
        known_s = self._now() - (_ELASTIC_AGE_S if state.elastic is not None else 0.0)
        self._pending = {n: each for n, each in self._pending.items() if each[1] > known_s}

    def mark_static(self) -> None:
        """Note that the server is healthy but reports no state, as plain vLLM does."""
        self.state, self.is_static, self._trouble = None, True, ""
        self._pending.clear()
        self._changed()

    def mark_lost(self, trouble: str) -> None:
        """Send no requests to this worker until it reports its state again."""
        self.state, self.is_static, self._trouble = None, False, trouble
        self._changed()

    def in_flight(self) -> Call:
        """Returns a context during which a call to this worker is in flight."""
        return Call(self.calls)

    def cancel_all(self) -> None:
        """Cancel all calls to this worker, now."""
        self.calls.cancel_all()

    @property
    def pool(self) -> Pool | None:
        """The pool of an elastic worker, less what is on its way; None for other workers."""
        part = self.state.elastic if self.state else None
        if self.state is None or part is None:
            return None
        return Pool.reported(
            capacity_tokens=part.capacity_tokens,
            free_tokens=part.free_tokens,
            queued_tokens=self._queued_tokens(self.state),
            prefilling_tokens=sum(g.num_tokens for g in part.groups if g.kind == "prefill"),
        )

    def _queued_tokens(self, state: WorkerState) -> int:
        """Prompt tokens that wait at the worker or are on their way to it."""
        return state.waiting_tokens + sum(tokens for tokens, _ in self._pending.values())

    def replica(self) -> Replica:
        """Snapshot of this worker for the wave policy.

        Only this method derives what a replica accepts from the worker's mode: a re-sharding
        worker prefills in windows, and any other worker takes prompts at any time. The room of
        a worker is what its buffer has free, less what waits for it or is on its way.
        """
        state = self.state
        part = None if state is None else state.resharding
        if state is None or part is None or part.buffer is None:
            return Replica(
                name=self.target.name,
                num_running=self.num_busy,
                accepts=Intake.ALWAYS,
                pool=self.pool,
            )
        buffer = part.buffer
        free_tokens = buffer.blocks.free * buffer.block_size
        taken_tokens = self._queued_tokens(state)
        return Replica(
            name=self.target.name,
            num_running=self.num_busy,
            accepts=Intake.OPEN if part.phase is Phase.PREFILL else Intake.WAVES,
            room_tokens=max(0, free_tokens - taken_tokens),
            capacity_tokens=buffer.blocks.capacity * buffer.block_size,
            window_age_s=self._windows.age_s(self._now()),
            cycle_s=self._windows.cycle_s,
        )

    def _changed(self) -> None:
        self._log.note(self.why_not_serving, self._now())
        self._on_change()
