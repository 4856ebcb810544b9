"""What an elastic worker reports of itself: its part of the state, and metrics."""

import asyncio
import contextlib
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from seesaw_core.messages import (
    ElasticGroup,
    ElasticState,
    GroupSpan,
    RequestSpan,
    TimelineEvent,
)
from seesaw_worker.modes.mode import Hooks, ModeState
from seesaw_worker.processes.liveness import Core

_POLL_S = 0.5


class Metrics:
    """The metrics of elastic instances, beside vLLM's own in the same registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.slots = Gauge(
            "seesaw_elastic_kv_tokens",
            "Tokens whose KV an instance can keep, by its number and state: free, capacity.",
            ["number", "state"],  # Prometheus has an instance of its own
            registry=registry,
        )
        self.busy = Gauge(
            "seesaw_elastic_instances",
            "Instances by what they do: prefill, decode, migrate, idle, lost.",
            ["state"],
            registry=registry,
        )
        self.iterations = Counter(
            "seesaw_elastic_iterations",
            "Iterations of groups, by kind and by the number of instances.",
            ["kind", "degree"],
            registry=registry,
        )
        self.events = Counter(
            "seesaw_elastic_requests",
            "Requests that had to start again, by why: preemption, restart after a failure.",
            ["why"],
            registry=registry,
        )
        self.failures = Counter(
            "seesaw_elastic_failed_iterations", "Iterations that have failed.", registry=registry
        )
        self.migrated = Counter(
            "seesaw_elastic_migrated_tokens",
            "Tokens whose KV has moved between instances.",
            registry=registry,
        )


class Telemetry:
    """Asks the engine for its state, again and again, and answers from the last one.

    Call order: :meth:`poll` as a task once the engine serves; all else at any time.
    ``token_bytes`` is the size of one token's KV on an instance, once that is known.
    """

    def __init__(self) -> None:
        self.token_bytes = 0
        self._metrics = Metrics(CollectorRegistry())
        self._state: dict[str, Any] = {}
        self._counted: dict[tuple[str, ...], int] = {}
        self._shown = {"groups": 0, "requests": 0}  # spans in the events so far

    def register(self, registry: CollectorRegistry) -> None:
        """Keep the metrics in this registry from now on."""
        self._metrics = Metrics(registry)

    async def poll(self, core: Core, hooks: Hooks) -> None:
        """Follow the engine for ever: report lost instances, once each, and publish spans."""
        known: set[str] = set()
        while True:
            with contextlib.suppress(Exception):  # an engine that has died: others notice
                (self._state,) = await _ask(core)
            for instance, why in self._state.get("lost", {}).items():
                if instance not in known:
                    known.add(instance)
                    hooks.report(f"instance {instance} is lost: {why}; the others go on")
            with contextlib.suppress(Exception):  # a picture's spans must not end the reports
                if (event := self._timeline()) is not None:
                    hooks.publish(event)
            await asyncio.sleep(_POLL_S)

    def _timeline(self) -> TimelineEvent | None:
        """Return the spans that no event had yet; None if there are none."""
        timeline = self._state.get("timeline", {})
        new: dict[str, list[dict[str, Any]]] = {}
        num_new = 0
        for kind, spans in timeline.items():
            number = spans["total"] - self._shown[kind]
            self._shown[kind] = spans["total"]
            new[kind] = spans["last"][-number:] if number else []
            num_new += number
        if not num_new:
            return None
        return TimelineEvent(
            groups=tuple(GroupSpan(**span) for span in new["groups"]),
            requests=tuple(RequestSpan(**span) for span in new["requests"]),
            num_dropped=num_new - sum(map(len, new.values())),
        )

    def state(self) -> ModeState:
        """Return the mode as of the last answer."""
        state = self._state
        return ModeState(
            num_waiting=state.get("num_waiting", 0),
            waiting_tokens=state.get("waiting_tokens", 0),
            part=ElasticState(
                capacity_tokens=tuple(state.get("capacity_tokens", ())),
                free_tokens=tuple(state.get("free_tokens", ())),
                lost_instances=tuple(sorted(int(i) for i in state.get("lost", {}))),
                groups=tuple(
                    ElasticGroup(
                        kind=group["kind"],
                        instances=tuple(group["instances"]),
                        num_requests=group["requests"],
                        num_tokens=group["tokens"],
                    )
                    for group in state.get("groups", ())
                ),
                num_running=state.get("num_running", 0),
                prefills_by_degree=state.get("prefills", {}),
                decodes_by_degree=state.get("decodes", {}),
                failed_iterations=state.get("failures", 0),
                preemptions=state.get("preemptions", 0),
                restarts=state.get("restarts", 0),
                migrated_tokens=state.get("migrated_tokens", 0),
                migrated_bytes=state.get("migrated_tokens", 0) * self.token_bytes,
            ),
        )

    def refresh(self) -> None:
        """Bring gauges and counters up to date; called before each scrape."""
        part = self.state().part
        assert isinstance(part, ElasticState)
        for instance, (capacity, free) in enumerate(
            zip(part.capacity_tokens, part.free_tokens, strict=True)
        ):
            self._metrics.slots.labels(number=instance, state="capacity").set(capacity)
            self._metrics.slots.labels(number=instance, state="free").set(free)
        states = dict.fromkeys(("prefill", "decode", "migrate"), 0)
        for group in part.groups:
            states[group.kind] += len(group.instances)
        states["lost"] = len(part.lost_instances)
        states["idle"] = len(part.capacity_tokens) - sum(states.values())
        for name, number in states.items():
            self._metrics.busy.labels(state=name).set(number)
        for kind, counts in (
            ("prefill", part.prefills_by_degree),
            ("decode", part.decodes_by_degree),
        ):
            for degree, number in counts.items():
                counter = self._metrics.iterations.labels(kind=kind, degree=degree)
                counter.inc(self._more((kind, degree), number))
        self._metrics.events.labels(why="preemption").inc(
            self._more(("preemption",), part.preemptions)
        )
        self._metrics.events.labels(why="restart").inc(self._more(("restart",), part.restarts))
        self._metrics.failures.inc(self._more(("failure",), part.failed_iterations))
        self._metrics.migrated.inc(self._more(("migrated",), part.migrated_tokens))

    def _more(self, name: tuple[str, ...], number: int) -> int:
        """Return by how much a total has grown since it was last counted."""
        before = self._counted.get(name, 0)
        self._counted[name] = max(number, before)
        return max(0, number - before)


async def _ask(core: Core) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = await core.collective_rpc_async("elastic_state")
    return answer
