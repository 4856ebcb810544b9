"""What the parts of the scheduler know together: requests, and iterations under way.

Launching adds iterations, ending takes them out; requests come and go in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm.v1.request import Request, RequestStatus

from seesaw_core.elastic.driver import ElasticDriver
from seesaw_core.elastic.view import Decode, Migrate, Prefill, Step
from seesaw_worker.modes.elastic.admission import Admission
from seesaw_worker.modes.elastic.answers import Answers
from seesaw_worker.modes.elastic.composing import TaskComposer
from seesaw_worker.modes.elastic.timeline import Timeline


@dataclass(slots=True, kw_only=True)
class Running:
    """An iteration under way, on which requests."""

    step: Step
    instances: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass(slots=True)
class Totals:
    """Iterations so far, by kind and degree; the state of the mode shows them."""

    prefills: dict[int, int] = field(default_factory=dict)
    decodes: dict[int, int] = field(default_factory=dict)
    migrations: int = 0
    failures: int = 0

    def count(self, step: Step) -> None:
        if isinstance(step, Migrate):
            self.migrations += 1
            return
        counts = self.prefills if isinstance(step, Prefill) else self.decodes
        degree = len(step.instances)
        counts[degree] = counts.get(degree, 0) + 1


@dataclass(slots=True, kw_only=True)
class Books:
    """``running`` is by the number of the launch, ``computing`` names the launch of a request.

    ``attempts`` counts the failed iterations of a request in a row. ``is_changed`` says that there
    may be something new to plan.
    """

    driver: ElasticDriver
    composer: TaskComposer
    admission: Admission
    answers: Answers
    requests: dict[str, Request] = field(default_factory=dict)
    running: dict[int, Running] = field(default_factory=dict)
    computing: dict[str, int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    timeline: Timeline = field(default_factory=Timeline)
    is_changed: bool = True

    @property
    def num_waiting(self) -> int:
        return self.driver.num_waiting + len(self.admission)

    def drop(self, request: Request) -> None:
        """A request ends outside of an iteration that computes it, or while one does."""
        key = request.request_id
        del self.requests[key]
        self.attempts.pop(key, None)
        self.is_changed = True
        if not self.admission.remove(key):
            self.driver.abort(key)
            self.follow_cache()
            if key not in self.computing:
                self.forget(key)

    def follow_cache(self) -> None:
        """Let instances hear of what the driver's last call has changed in the cache."""
        for change in self.driver.cache.take_changes():
            self.composer.change(change)

    def forget(self, key: str) -> None:
        """A request has ended, and no iteration computes it."""
        self.composer.forget(key)
        self.timeline.forget(key)

    def fail(self, request: Request) -> None:
        """End a request with an error, which its client hears of."""
        request.status = RequestStatus.FINISHED_ERROR
        self.drop(request)
        self.answers.refuse(request)

    def snapshot(self) -> dict[str, Any]:
        """Return the state of the mode, as plain values."""
        pool = self.driver.pool
        return {
            "capacity_tokens": pool.capacity_tokens,
            "free_tokens": pool.free_tokens,
            "groups": [
                {
                    "kind": type(r.step).__name__.lower(),
                    "instances": r.instances,
                    "requests": len(r.keys),
                    "tokens": num_computed(r.step),
                }
                for r in self.running.values()
            ],
            "num_waiting": self.num_waiting,
            "waiting_tokens": self.admission.num_tokens + self.driver.waiting_tokens,
            "num_running": len(self.driver) - self.driver.num_waiting,
            "prefills": {str(degree): n for degree, n in self.totals.prefills.items()},
            "decodes": {str(degree): n for degree, n in self.totals.decodes.items()},
            "failures": self.totals.failures,
            "preemptions": self.driver.num_preemptions,
            "restarts": self.driver.num_restarts,
            "migrations": self.totals.migrations,
            "migrated_tokens": pool.migrated_tokens,
            "cached_tokens": sum(self.driver.cache.tokens),
            "timeline": self.timeline.recent(pool),
        }


def keys_of(step: Step) -> tuple[str, ...]:
    """Return the requests of an iteration."""
    if isinstance(step, Migrate):
        return step.keys
    keys: Mapping[str, object] = step.placements if isinstance(step, Prefill) else step.masters
    return tuple(keys)


def num_computed(step: Step) -> int:
    """Return the tokens that an iteration computes."""
    match step:
        case Prefill():
            placements = step.placements.items()
            return sum(placed.num_tokens - step.num_reused(key) for key, placed in placements)
        case Decode():
            return len(step.masters)
        case Migrate():
            return 0
