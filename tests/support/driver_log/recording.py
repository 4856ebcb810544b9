"""A driver that records its calls and their results, and a replay of such a log."""

from dataclasses import dataclass
from typing import Any

from seesaw_core.resharding.driver import Driver, Effect
from seesaw_core.resharding.events import Event
from seesaw_core.resharding.policy import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One call of a driver: with an event, or with None for the next step.

    ``answer`` is what it returned, or the kind of error that it raised.
    """

    now_s: float
    event: Event | None
    answer: Step | tuple[Effect, ...] | type[Exception]


class Recorder(Driver):
    """A driver that keeps a log. ``began_s`` is the time of its creation."""

    def __init__(self, *args: Any, now_s: float = 0.0) -> None:
        super().__init__(*args, now_s=now_s)
        self.began_s = now_s
        self.log: list[Entry] = []

    def observe(self, event: Event, now_s: float) -> tuple[Effect, ...]:
        try:
            effects = super().observe(event, now_s)
        except Exception as error:
            self.log.append(Entry(now_s=now_s, event=event, answer=type(error)))
            raise
        self.log.append(Entry(now_s=now_s, event=event, answer=effects))
        return effects

    def next_step(self, now_s: float) -> Step:
        step = super().next_step(now_s)
        self.log.append(Entry(now_s=now_s, event=None, answer=step))
        return step

    @property
    def steps(self) -> list[Step]:
        return [e.answer for e in self.log if e.event is None]  # type: ignore[misc]


def tell_again(log: list[Entry], driver: Driver) -> list[Entry]:
    """Repeat the calls of a log on another driver. Returns its log."""
    answers: list[Entry] = []
    for entry in log:
        answer: Any
        try:
            if entry.event is None:
                answer = driver.next_step(entry.now_s)
            else:
                answer = driver.observe(entry.event, entry.now_s)
        except Exception as error:  # noqa: BLE001 - it is the result
            answer = type(error)
        answers.append(Entry(now_s=entry.now_s, event=entry.event, answer=answer))
    return answers
