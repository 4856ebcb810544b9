"""What a worker reports about itself: Prometheus metrics, its state and a stream of events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.registry import Collector

from seesaw_core.messages import (
    VERSION,
    ElasticState,
    EventKind,
    ReshardingState,
    Stage,
    StaticState,
    TimelineEvent,
    TransitionEvent,
    WaveEvent,
    WorkerState,
)
from seesaw_core.writing import as_json
from seesaw_worker.modes.mode import Event, Mode
from seesaw_worker.planning.live import Replanner, Traffic
from seesaw_worker.processes.liveness import Liveness

_BACKLOG = 256
_STATE_EVERY_S = 1.0
_KINDS: dict[type[Event], EventKind] = {
    TransitionEvent: EventKind.TRANSITION,
    WaveEvent: EventKind.WAVE,
    TimelineEvent: EventKind.TIMELINE,
}
_Event = tuple[EventKind, dict[str, Any]]
_Events = asyncio.Queue[_Event | None]  # None ends the stream


class Metrics:
    """The metrics of every worker, whatever its mode, beside vLLM's own in the same registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.step_age = Gauge(
            "seesaw_step_age_seconds",
            "Age in seconds of the oldest running step or hand-over of an engine.",
            registry=registry,
        )


class Telemetry:
    """Reports the state, events and metrics of a worker and its mode.

    Call order: :meth:`attach_plan` first if the worker plans; all other methods at any time.
    """

    def __init__(self, mode: Mode, registry: CollectorRegistry) -> None:
        self.stage = Stage.STARTING
        self.detail = "starting"
        self._mode = mode
        registry.register(_RefreshFirst(self))
        self.traffic = Traffic(registry)
        self._metrics = Metrics(registry)
        mode.register(registry)
        self._replanner: Replanner | None = None
        self._liveness: Liveness | None = None
        self._listeners: set[_Events] = set()

    def attach_plan(self, replanner: Replanner) -> None:
        self._replanner = replanner

    def attach_liveness(self, liveness: Liveness) -> None:
        self._liveness = liveness

    def set_stage(self, stage: Stage, detail: str) -> None:
        """Enter a worker stage and send the new state to all listeners."""
        self.stage, self.detail = stage, detail
        self._send((EventKind.STATE, as_json(self.state())))

    def publish(self, event: Event) -> None:
        """Send an event of the mode to all listeners."""
        self._send((_KINDS[type(event)], as_json(event)))

    def state(self) -> WorkerState:
        """Return the current state of the worker."""
        mode_state = self._mode.state()
        part = mode_state.part
        return WorkerState(
            version=VERSION,
            mode=self._mode.name,
            stage=self.stage,
            detail=self.detail,
            num_waiting=mode_state.num_waiting,
            waiting_tokens=mode_state.waiting_tokens,
            finished=self.traffic.totals(),
            plan=self._replanner.summary if self._replanner else None,
            resharding=part if isinstance(part, ReshardingState) else None,
            static=part if isinstance(part, StaticState) else None,
            elastic=part if isinstance(part, ElasticState) else None,
        )

    def refresh(self) -> None:
        """Update gauges and counters. Called before each scrape."""
        if self._liveness is not None:
            self._metrics.step_age.set(self._liveness.watch.oldest[1])
        self._mode.refresh()

    async def events(self) -> AsyncIterator[bytes]:
        """Yield server-sent events, the state first, until the worker drains or breaks.

        The state is sent each second, however many other events there are.
        """
        queue: _Events = asyncio.Queue(maxsize=_BACKLOG)
        self._listeners.add(queue)
        now_s, state_due_s = asyncio.get_running_loop().time, 0.0
        try:
            event: _Event | None = EventKind.STATE, as_json(self.state())
            while event is not None:
                if event[0] is EventKind.STATE:
                    state_due_s = now_s() + _STATE_EVERY_S
                yield _sse(*event)
                if self.stage in (Stage.DRAINING, Stage.BROKEN):
                    return
                event = await self._next_event(queue, state_due_s)
        finally:
            self._listeners.discard(queue)

    async def _next_event(self, queue: _Events, state_due_s: float) -> _Event | None:
        if asyncio.get_running_loop().time() < state_due_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(state_due_s):
                    return await queue.get()
        return EventKind.STATE, as_json(self.state())

    def end_events(self) -> None:
        """End the open streams. Their clients may connect again."""
        self._send(None)

    def _send(self, event: _Event | None) -> None:
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()  # a listener that does not read misses the oldest event
            queue.put_nowait(event)


class _RefreshFirst(Collector):
    """Updates the metrics at each scrape. Must be registered before the metrics themselves."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        self._telemetry.refresh()
        return ()


def _sse(kind: EventKind, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
