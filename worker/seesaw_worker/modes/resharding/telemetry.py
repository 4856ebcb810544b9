"""What a re-sharding worker reports about itself: metrics, its part of the state, and events."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from seesaw_core.messages import (
    BufferState,
    PathTotals,
    ReshardingState,
    TransitionEvent,
    WaveEvent,
)
from seesaw_core.resharding.policy import Phase
from seesaw_worker.modes.mode import ModeState
from seesaw_worker.modes.resharding.controller import Controller
from seesaw_worker.settings.engine import EngineSettings
from seesaw_worker.settings.worker import WorkerSettings

_TRANSITION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WAVE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of re-sharding, beside vLLM's own in the same registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.phase = Gauge(
            "seesaw_phase",
            "1 for the current phase, 0 for the other: prefill, decode.",
            ["phase"],
            registry=registry,
        )
        self.transitions = Counter(
            "seesaw_transitions",
            "Transitions by the phase that they lead to: prefill, decode.",
            ["to"],
            registry=registry,
        )
        self.transition_seconds = Histogram(
            "seesaw_transition_seconds",
            "Duration of a transition in seconds by part: pause, weights, resume, total.",
            ["part"],
            buckets=_TRANSITION_BUCKETS_S,
            registry=registry,
        )
        self.weight_bytes = Counter(
            "seesaw_weight_bytes", "Bytes of weights copied by transitions.", registry=registry
        )
        self.buffer_bytes = Gauge(
            "seesaw_kv_buffer_bytes",
            "Bytes of the KV buffer by state: free, reserved, stored, loading, capacity.",
            ["state"],
            registry=registry,
        )
        self.wave_prompts = Histogram(
            "seesaw_wave_prompts",
            "Prompts per prefill wave.",
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
            "seesaw_phase_seconds", "Seconds spent in each phase.", ["phase"], registry=registry
        )


class Telemetry:
    """Reports what the controller does. Implements :class:`~.controller.Observer`.

    Call order: :meth:`attach` once the controller exists; :meth:`state` and :meth:`refresh` at any
    time.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._metrics = Metrics(CollectorRegistry())
        self._publish: Callable[[TransitionEvent | WaveEvent], None] = lambda _: None
        self._controller: Controller | None = None
        self._engine: EngineSettings | None = None
        self._counted_paths = PathTotals()
        self._counted_seconds = dict.fromkeys(Phase, 0.0)

    def register(self, registry: CollectorRegistry) -> None:
        """Register the metrics. Called once, before any is counted."""
        self._metrics = Metrics(registry)

    def publish_to(self, publish: Callable[[TransitionEvent | WaveEvent], None]) -> None:
        """Send every event to ``publish`` from now on."""
        self._publish = publish

    def attach(self, controller: Controller, engine: EngineSettings) -> None:
        self._controller, self._engine = controller, engine

    def transition_done(self, event: TransitionEvent) -> None:
        self._metrics.transitions.labels(to=event.to).inc()
        for part in ("pause", "weights", "resume", "total"):
            seconds = getattr(event, f"{part}_s")
            self._metrics.transition_seconds.labels(part=part).observe(seconds)
        self._metrics.weight_bytes.inc(event.weight_bytes)
        self._publish(event)

    def wave_done(self, event: WaveEvent) -> None:
        self._metrics.wave_prompts.observe(event.prompts)
        self._publish(event)

    def state(self) -> ModeState:
        """Return the current state of the mode."""
        controller = self._controller
        driver = controller.driver if controller else None
        part = ReshardingState(
            phase=driver.phase if driver else Phase.DECODE,
            phase_age_s=controller.phase_age_s if controller else 0.0,
            reason=driver.last_step.reason if driver else "",
            prefill_layout=str(self._settings.prefill),
            decode_layout=str(self._settings.decode),
            reshard=self._settings.reshard,
            num_prefilling=len(driver.prefilling) if driver else 0,
            num_decoding=len(driver.decoding) if driver else 0,
            transitions=controller.num_transitions if controller else 0,
            seconds_by_phase=self._seconds_by_phase(),
            buffer=self._buffer(),
            paths=controller.paths if controller else PathTotals(),
        )
        return ModeState(
            num_waiting=len(driver.waiting) if driver else 0,
            waiting_tokens=driver.waiting.num_tokens if driver else 0,
            part=part,
        )

    def refresh(self) -> None:
        """Update gauges and counters. Called before each scrape."""
        controller = self._controller
        driver = controller.driver if controller else None
        seconds = self._seconds_by_phase()
        for phase in Phase:
            is_now = (driver.phase if driver else Phase.DECODE) == phase
            self._metrics.phase.labels(phase=phase).set(is_now)
            before_s = self._counted_seconds[phase]
            now_s = max(seconds.get(phase, 0.0), before_s)
            self._metrics.phase_seconds.labels(phase=phase).inc(now_s - before_s)
            self._counted_seconds[phase] = now_s
        self._metrics.waiting.set(len(driver.waiting) if driver else 0)
        if (buffer := self._buffer()) is not None:
            for name in ("free", "reserved", "stored", "loading", "capacity"):
                blocks = getattr(buffer.blocks, name)
                self._metrics.buffer_bytes.labels(state=name).set(blocks * buffer.block_bytes)
        self._refresh_paths(controller.paths if controller else PathTotals())

    def _refresh_paths(self, paths: PathTotals) -> None:
        before, self._counted_paths = self._counted_paths, paths
        for path in ("reshard", "in_place"):
            for metric, unit in (
                (self._metrics.requests, "requests"),
                (self._metrics.prompt_tokens, "tokens"),
            ):
                name = f"{path}_{unit}"
                metric.labels(path=path).inc(getattr(paths, name) - getattr(before, name))

    def _buffer(self) -> BufferState | None:
        if self._controller is None or self._engine is None:
            return None
        return BufferState(
            block_size=self._engine.block_size,
            block_bytes=self._engine.block_bytes,
            blocks=self._controller.driver.ledger.totals(),
        )

    def _seconds_by_phase(self) -> dict[str, float]:
        controller = self._controller
        if controller is None:
            return {}
        seconds = {str(phase): s for phase, s in controller.driver.seconds_by_phase.items()}
        seconds[controller.driver.phase] += controller.phase_age_s
        return seconds
