"""Plain vLLM under a static layout."""

from seesaw_sim.clock import Clock
from seesaw_sim.engine import Engine, Outcome
from seesaw_sim.replicas import Journal, Runner, note_outcome
from seesaw_sim.sequences import Sequence


class StaticServer:
    """Plain vLLM: one engine that prefills and decodes in the same steps."""

    def __init__(self, clock: Clock, engine: Engine, number: int, journal: Journal) -> None:
        self._clock = clock
        self._runner = Runner(
            clock, engine, self._outcome, lambda a, b: journal.note(number, "mixed", a, b)
        )

    def take(self, sequence: Sequence) -> None:
        self._runner.engine.take(sequence)
        self._clock.settle(self._runner.nudge)

    def _outcome(self, outcome: Outcome) -> None:
        note_outcome(outcome, self._clock.now_s)
