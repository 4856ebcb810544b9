"""One worker behind a router: what it does, as its follower keeps it up to date."""

import dataclasses
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from seesaw_core.messages import ModeName, Stage, TransitionEvent, WorkerState
from seesaw_core.resharding.policy import Phase
from seesaw_core.routing.waves import Intake, Replica
from seesaw_core.routing.windows import PrefillWindows
from seesaw_router.dispatch.connections import Connections
from seesaw_router.dispatch.in_flight import Call, Calls
from seesaw_router.dispatch.serving_log import ServingLog

_MOST_LINGERING = 1024
_LONGEST_LINGER_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A worker's address. ``is_draining``: it finishes what it has and takes nothing new."""

    name: str
    url: str
    is_draining: bool = False


class Backend:
    """One worker: its latest state, and what runs there. It reads nothing from the network.

    Call order: any, from one event loop. The follower calls :meth:`take`, :meth:`be_static`,
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
        self.calls = Calls(target.name)
        self.num_running = 0
        self.last_sent = -1  # the number of the last request that went there
        self.share = 1.0
        self._lingering: list[float] = []  # a heap of times, until when
        self.state: WorkerState | None = None
        self.is_static = False
        self.doubt: Callable[[], None] = lambda: None
        self._trouble = "it has not answered yet"
        self._log = ServingLog(target.name)
        self._on_change = on_change
        self._now = clock
        self._heard_s = clock()
        self._pending: dict[int, int] = {}  # prompt tokens sent and not yet in any state
        self._windows = PrefillWindows()

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
        """Why the worker takes no requests; an empty string if it takes them."""
        if self.target.is_draining:
            return "it is going"
        if self._trouble or self.state is None:
            return self._trouble
        if self.state.stage is not Stage.SERVING:
            return f"its stage is {self.state.stage}: {self.state.detail[:200]!a}"
        return ""

    @property
    def silent_s(self) -> float:
        """Seconds for which nothing at all has come from the worker."""
        return self._now() - self._heard_s

    def sent(self, number: int, tokens: int) -> None:
        """Count a request that goes there."""
        self.num_running += 1
        self.last_sent = number
        self._pending[number] = tokens

    def ended(self, number: int) -> None:
        """Count a request no more: it has ended, however."""
        self.num_running -= 1
        self._pending.pop(number, None)

    def linger(self, for_s: float) -> None:
        """Count a request that failed at once as running for as long as others do run.

        The least busy worker must not be the one that fails fastest.
        """
        if for_s > 0 and len(self._lingering) < _MOST_LINGERING:
            heapq.heappush(self._lingering, self._now() + min(for_s, _LONGEST_LINGER_S))

    @property
    def num_busy(self) -> int:
        """The number of requests it counts as running where the least busy worker is wanted."""
        now = self._now()
        while self._lingering and self._lingering[0] <= now:
            heapq.heappop(self._lingering)
        return ceil((self.num_running + len(self._lingering)) / self.share)

    def heard(self) -> None:
        """Note that something came from it."""
        self._heard_s = self._now()

    def take(self, event: WorkerState | TransitionEvent) -> None:
        """Note its state, or a transition, as it reports them."""
        if isinstance(event, WorkerState):
            self.state, self.is_static, self._trouble = event, False, ""
            self._pending.clear()
        elif self.state is not None and self.state.resharding is not None:
            part = dataclasses.replace(self.state.resharding, phase=event.to)
            self.state = dataclasses.replace(self.state, resharding=part)
            if event.to is Phase.PREFILL:
                self._windows.opened(self._now())
        self._changed()

    def be_static(self) -> None:
        """Note that it is healthy, and reports no state: it is not a worker of ours."""
        self.state, self.is_static, self._trouble = None, True, ""
        self._pending.clear()
        self._changed()

    def lose(self, trouble: str) -> None:
        """Send nothing more there until it reports its state again."""
        self.state, self.is_static, self._trouble = None, False, trouble
        self._changed()

    def in_flight(self) -> Call:
        """Returns a context during which something is in flight to it."""
        return Call(self.calls)

    def cancel_all(self) -> None:
        """Break off whatever is in flight to it, now."""
        self.calls.cancel_all()

    def replica(self) -> Replica:
        """Snapshot of this worker for the wave policy.

        Only this method derives what a replica accepts from the worker's mode: a re-sharding
        worker prefills in windows, and any other worker takes prompts at any time. The room of
        a worker is what its buffer has free, less what waits for it or is on its way.
        """
        state = self.state
        part = None if state is None else state.resharding
        if state is None or part is None or part.buffer is None:
            return Replica(name=self.target.name, num_running=self.num_busy, accepts=Intake.ALWAYS)
        buffer = part.buffer
        free_tokens = buffer.blocks.free * buffer.block_size
        taken_tokens = state.waiting_tokens + sum(self._pending.values())
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
