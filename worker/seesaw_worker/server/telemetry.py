"""What a worker shows of itself: Prometheus metrics, the state, and a stream of events."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

from seesaw_core.messages import (
    BufferState,
    EventKind,
    PathTotals,
    Stage,
    TransitionEvent,
    WaveEvent,
    WorkerState,
)
from seesaw_core.resharding.policy import Phase
from seesaw_worker.modes.resharding.controller import Controller
from seesaw_worker.planning.live import Replanner, Traffic
from seesaw_worker.processes.liveness import Liveness
from seesaw_worker.settings.engine import EngineSettings
from seesaw_worker.settings.worker import WorkerSettings

_TRANSITION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WAVE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_BACKLOG = 256
_Event = tuple[EventKind, dict[str, Any]]
_Events = asyncio.Queue[_Event | None]  # None ends the stream


class Metrics:
    """The ``seesaw_`` metrics, beside vLLM's own in the same registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.phase = Gauge(
            "seesaw_phase",
            "1 for the phase that owns the devices: prefill, decode.",
            ["phase"],
            registry=registry,
        )
        self.transitions = Counter(
            "seesaw_transitions",
            "Hand-overs of the devices, by the phase they went to.",
            ["to"],
            registry=registry,
        )
        self.transition_seconds = Histogram(
            "seesaw_transition_seconds",
            "Seconds of a transition by part: pause, weights, resume, total.",
            ["part"],
            buckets=_TRANSITION_BUCKETS_S,
            registry=registry,
        )
        self.weight_bytes = Counter(
            "seesaw_weight_bytes", "Weight bytes copied by transitions.", registry=registry
        )
        self.buffer_bytes = Gauge(
            "seesaw_kv_buffer_bytes",
            "KV-buffer bytes by state: free, reserved, stored, loading, capacity.",
            ["state"],
            registry=registry,
        )
        self.wave_prompts = Histogram(
            "seesaw_wave_prompts",
            "Prompts of a prefill wave.",
            buckets=_WAVE_BUCKETS,
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "seesaw_prompt_tokens",
            "Prompt tokens by path: reshard, in_place.",
            ["path"],
            registry=registry,
        )
        self.requests = Counter(
            "seesaw_requests", "Requests by path: reshard, in_place.", ["path"], registry=registry
        )
        self.waiting = Gauge(
            "seesaw_waiting_prompts", "Prompts that wait for a wave.", registry=registry
        )
        self.phase_seconds = Counter(
            "seesaw_phase_seconds", "Seconds in each phase.", ["phase"], registry=registry
        )
        self.step_age = Gauge(
            "seesaw_step_age_seconds",
            "Seconds for which an engine or a hand-over has been at one step; the longest.",
            registry=registry,
        )


class Telemetry:
    """Observes the controller and answers for it.

    Call order: :meth:`attach_plan` first if the worker plans, :meth:`attach` once the controller
    exists; all else at any time.
    """

    def __init__(self, settings: WorkerSettings, registry: CollectorRegistry) -> None:
        self.stage = Stage.STARTING
        self.detail = "starting"
        self._settings = settings
        registry.register(_RefreshFirst(self))
        self.traffic = Traffic(registry)
        self._metrics = Metrics(registry)
        self._controller: Controller | None = None
        self._engine: EngineSettings | None = None
        self._replanner: Replanner | None = None
        self._liveness: Liveness | None = None
        self._listeners: set[_Events] = set()
        self._seen_paths = PathTotals()
        self._seen_seconds = dict.fromkeys(Phase, 0.0)

    def attach(self, controller: Controller, engine: EngineSettings) -> None:
        self._controller, self._engine = controller, engine

    def attach_plan(self, replanner: Replanner) -> None:
        self._replanner = replanner

    def attach_liveness(self, liveness: Liveness) -> None:
        self._liveness = liveness

    def set_stage(self, stage: Stage, detail: str) -> None:
        """Enter a stage of the worker's life and tell the listeners."""
        self.stage, self.detail = stage, detail
        self._publish(EventKind.STATE, dataclasses.asdict(self.state()))

    def transition_done(self, event: TransitionEvent) -> None:
        self._metrics.transitions.labels(to=event.to).inc()
        for part in ("pause", "weights", "resume", "total"):
            seconds = getattr(event, f"{part}_s")
            self._metrics.transition_seconds.labels(part=part).observe(seconds)
        self._metrics.weight_bytes.inc(event.weight_bytes)
        self._publish(EventKind.TRANSITION, dataclasses.asdict(event))

    def wave_done(self, event: WaveEvent) -> None:
        self._metrics.wave_prompts.observe(event.prompts)
        self._publish(EventKind.WAVE, dataclasses.asdict(event))

    def state(self) -> WorkerState:
        """The worker as of now."""
        controller, engine = self._controller, self._engine
        buffer = None
        if controller is not None and engine is not None:
            buffer = BufferState(
                block_size=engine.block_size,
                block_bytes=engine.block_bytes,
                blocks=controller.driver.ledger.totals(),
            )
        driver = controller.driver if controller else None
        return WorkerState(
            stage=self.stage,
            detail=self.detail,
            phase=driver.phase if driver else Phase.DECODE,
            phase_age_s=controller.phase_age_s if controller else 0.0,
            reason=driver.last_step.reason if driver else "",
            prefill_layout=str(self._settings.prefill),
            decode_layout=str(self._settings.decode),
            reshard=self._settings.reshard,
            num_waiting=len(driver.waiting) if driver else 0,
            waiting_tokens=driver.waiting.num_tokens if driver else 0,
            num_prefilling=len(driver.prefilling) if driver else 0,
            num_decoding=len(driver.decoding) if driver else 0,
            transitions=controller.num_transitions if controller else 0,
            seconds_by_phase=self._seconds_by_phase(),
            buffer=buffer,
            paths=controller.paths if controller else PathTotals(),
            finished=self.traffic.totals(),
            plan=self._replanner.summary if self._replanner else None,
        )

    def refresh(self) -> None:
        """Bring gauges and counters up to date; called before each scrape."""
        state = self.state()
        for phase in Phase:
            self._metrics.phase.labels(phase=phase).set(state.phase == phase)
            seconds = state.seconds_by_phase.get(phase, 0.0)
            self._metrics.phase_seconds.labels(phase=phase).inc(
                max(0.0, seconds - self._seen_seconds[phase])
            )
            self._seen_seconds[phase] = max(seconds, self._seen_seconds[phase])
        if self._liveness is not None:
            self._metrics.step_age.set(self._liveness.watch.oldest[1])
        self._metrics.waiting.set(state.num_waiting)
        if state.buffer is not None:
            for name in ("free", "reserved", "stored", "loading", "capacity"):
                blocks = getattr(state.buffer.blocks, name)
                self._metrics.buffer_bytes.labels(state=name).set(blocks * state.buffer.block_bytes)
        seen, self._seen_paths = self._seen_paths, state.paths
        for path in ("reshard", "in_place"):
            for metric, what in (
                (self._metrics.requests, "requests"),
                (self._metrics.prompt_tokens, "tokens"),
            ):
                name = f"{path}_{what}"
                metric.labels(path=path).inc(getattr(state.paths, name) - getattr(seen, name))

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events, the state first; ends when the worker drains or breaks."""
        queue: _Events = asyncio.Queue(maxsize=_BACKLOG)
        self._listeners.add(queue)
        try:
            yield _sse(EventKind.STATE, dataclasses.asdict(self.state()))
            while self.stage not in (Stage.DRAINING, Stage.BROKEN):
                try:
                    async with asyncio.timeout(1.0):
                        event = await queue.get()
                except TimeoutError:
                    event = EventKind.STATE, dataclasses.asdict(self.state())
                if event is None:
                    return
                yield _sse(*event)
        finally:
            self._listeners.discard(queue)

    def end_events(self) -> None:
        """End the streams of all who listen now; they may come again."""
        self._tell(None)

    def _seconds_by_phase(self) -> dict[str, float]:
        controller = self._controller
        if controller is None:
            return {}
        seconds = {str(phase): s for phase, s in controller.driver.seconds_by_phase.items()}
        seconds[controller.driver.phase] += controller.phase_age_s
        return seconds

    def _publish(self, kind: EventKind, data: dict[str, Any]) -> None:
        self._tell((kind, data))

    def _tell(self, event: _Event | None) -> None:
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()  # a listener that does not read misses the oldest
            queue.put_nowait(event)


class _RefreshFirst(Collector):
    """Registered ahead of the metrics, so that every scrape finds them up to date."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        self._telemetry.refresh()
        return ()


def _sse(kind: EventKind, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()
