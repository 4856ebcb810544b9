"""Runs engines on the virtual clock, and records what each replica does.

Every simulated system is built from these classes.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from seesaw_sim.clock import Clock, Timer
from seesaw_sim.engine import Engine, Outcome
from seesaw_sim.sequences import Sequence

_INSTANT_S = 1e-9  # rounding of floats is no gap


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """An activity of one replica, from ``start_s`` to ``stop_s``."""

    replica: int
    what: str
    start_s: float
    stop_s: float


@dataclass(slots=True, kw_only=True)
class Journal:
    """The record of a simulation.

    ``held`` counts the buffer tokens that each replica holds now, those reserved for prompts in
    prefill included. ``buffer`` lists the tokens with KV: (replica, time in s, tokens). ``last`` is
    the index of each replica's last stretch.
    """

    stretches: list[Stretch] = field(default_factory=list)
    buffer: list[tuple[int, float, int]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    num_transitions: int = 0
    peak_buffer_tokens: int = 0
    peak_stored_tokens: int = 0
    held: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)

    def note(self, replica: int, what: str, start_s: float, stop_s: float) -> None:
        """Record an activity. It extends the last stretch if that is of the same kind."""
        if stop_s <= start_s:
            return
        self.seconds[what] += stop_s - start_s
        joined = Stretch(replica=replica, what=what, start_s=start_s, stop_s=stop_s)
        index = self.last.get(replica)
        if index is not None:
            last = self.stretches[index]
            if last.what == what and last.stop_s >= start_s - _INSTANT_S:
                self.stretches[index] = replace(joined, start_s=last.start_s)
                return
        self.last[replica] = len(self.stretches)
        self.stretches.append(joined)

    def note_buffer(self, replica: int, now_s: float, held: int, stored: int) -> None:
        self.peak_buffer_tokens = max(self.peak_buffer_tokens, held)
        self.peak_stored_tokens = max(self.peak_stored_tokens, stored)
        self.held[replica] = held
        self.buffer.append((replica, now_s, stored))


class Server(Protocol):
    """One replica."""

    def take(self, sequence: Sequence) -> None: ...


class Runner:
    """Runs one engine on the clock, while it may run and has work.

    ``on_outcome`` is called with the outcome of each stretch of rounds, and ``journal`` with its
    start and end.
    """

    def __init__(
        self,
        clock: Clock,
        engine: Engine,
        on_outcome: Callable[[Outcome], None],
        journal: Callable[[float, float], None],
    ) -> None:
        self.engine = engine
        self.may_run = True
        self._clock = clock
        self._on_outcome = on_outcome
        self._journal = journal
        self._timer: Timer | None = None
        self._began_s = 0.0
        self._on_stop: Callable[[], None] | None = None

    def nudge(self) -> None:
        """Start after new work has arrived, or end a long stretch at its next round."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._clock.at(self.engine.cut(self._clock.now_s), self._end)
        elif self.may_run:
            ends_s = self.engine.start(self._clock.now_s)
            if ends_s is not None:
                self._began_s = self._clock.now_s
                self._timer = self._clock.at(ends_s, self._end)

    def stop(self, then: Callable[[], None]) -> None:
        """Stop, and call ``then`` once the running round has ended."""
        self.may_run = False
        if self._timer is None:
            then()
            return
        self._on_stop = then
        self.nudge()

    def resume(self) -> None:
        self.may_run = True
        self.nudge()

    def _end(self) -> None:
        self._timer = None
        self._journal(self._began_s, self._clock.now_s)
        self._on_outcome(self.engine.finish(self._clock.now_s))
        if self._on_stop is not None:
            then, self._on_stop = self._on_stop, None
            then()
        elif self.may_run:
            self._clock.settle(self.nudge)


def note_outcome(outcome: Outcome, now_s: float) -> None:
    """Record when requests got their first and their last token."""
    for sequence in outcome.first:
        if sequence.first_token_s is None:
            sequence.first_token_s = now_s
    for sequence in outcome.finished:
        sequence.finish(now_s)
