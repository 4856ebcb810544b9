"""What can be simulated: a static layout, a pair that re-shards, and disaggregated engines.

A system is built of replicas; each takes requests and tells of those that are done.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from seesaw_core.errors import CapacityError
from seesaw_sim.clock import Clock, Timer
from seesaw_sim.engine import Engine, Outcome
from seesaw_sim.sequences import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What one replica did from one moment to another. Units: seconds."""

    replica: int
    what: str
    start_s: float
    stop_s: float


@dataclass(slots=True, kw_only=True)
class Journal:
    """What is seen on the way. ``held`` counts the buffer's tokens that each replica holds now, and
    ``buffer`` those with KV in them: (replica, time in s, tokens). The rest is kept for prompts
    that are being prefilled. ``last`` is the index of each replica's last stretch.
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
        """Neighbouring stretches of the same kind become one."""
        if stop_s <= start_s:
            return
        self.seconds[what] += stop_s - start_s
        joined = Stretch(replica=replica, what=what, start_s=start_s, stop_s=stop_s)
        index = self.last.get(replica)
        if index is not None:
            last = self.stretches[index]
            if last.what == what and last.stop_s >= start_s - 1e-9:
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
    """Keeps one engine going on the clock, while it may run and has work.

    ``on_outcome`` hears what each stretch of rounds brought; ``what`` is its name in the journal.
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
        """Something has come in: run, or end a long stretch at its next round."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._clock.at(self.engine.cut(self._clock.now_s), self._end)
        elif self.may_run:
            ends_s = self.engine.start(self._clock.now_s)
            if ends_s is not None:
                self._began_s = self._clock.now_s
                self._timer = self._clock.at(ends_s, self._end)

    def stop(self, then: Callable[[], None]) -> None:
        """Run no more, and go on with ``then`` once the running round has ended."""
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


class DisaggregatedServer:
    """Prefill on some devices, decode on others; KV crosses the link between them.

    A prompt's KV stays with its prefill engine until a decode engine has room for it.
    """

    def __init__(
        self,
        clock: Clock,
        prefills: list[Engine],
        decodes: list[Engine],
        number: int,
        journal: Journal,
    ) -> None:
        self._clock = clock
        self._prefilled: deque[tuple[Runner, Sequence]] = deque()
        self._link_free_s = 0.0
        self._prefills: list[Runner] = []
        for index, engine in enumerate(prefills):
            on_outcome = partial(self._prefill_outcome, index)
            note = partial(journal.note, number, "prefill")
            self._prefills.append(Runner(clock, engine, on_outcome, note))
        note = partial(journal.note, number, "decode")
        self._decodes = [Runner(clock, e, self._decode_outcome, note) for e in decodes]

    def take(self, sequence: Sequence) -> None:
        """Raises: CapacityError if the request fits no engine of either phase."""
        wanted = sequence.prompt_tokens + sequence.output_left
        room = min(r.engine.admissible_tokens for r in self._decodes)
        if wanted > room:
            raise CapacityError(
                f"a request of {wanted:,} tokens does not fit into the {room:,} tokens of KV under "
                f"{self._decodes[0].engine.costs.layout}"
            )
        runner = min(self._prefills, key=lambda r: len(r.engine.waiting) + r.engine.num_running)
        runner.engine.take(sequence)
        self._clock.settle(runner.nudge)

    def _prefill_outcome(self, index: int, outcome: Outcome) -> None:
        runner = self._prefills[index]
        for sequence in outcome.prefilled:
            sequence.first_token_s = sequence.first_token_s or self._clock.now_s
            sequence.output_left -= 1
            runner.engine.num_generated += 1
            if sequence.output_left:
                self._prefilled.append((runner, sequence))
            else:
                runner.engine.release(sequence)
                sequence.finish(self._clock.now_s)
        self._move()

    def _decode_outcome(self, outcome: Outcome) -> None:
        note_outcome(outcome, self._clock.now_s)
        self._move()

    def _move(self) -> None:
        while self._prefilled:
            target = min(self._decodes, key=lambda r: r.engine.num_running)
            source, sequence = self._prefilled[0]
            if not target.engine.has_room_for(sequence.prompt_tokens):
                return
            self._prefilled.popleft()
            target.engine.reserve(sequence)
            copied_s = source.engine.costs.kv_copy_s(sequence.prompt_tokens)
            self._link_free_s = max(self._link_free_s, self._clock.now_s) + copied_s
            self._clock.at(self._link_free_s, partial(self._arrived, source, target, sequence))

    def _arrived(self, source: Runner, target: Runner, sequence: Sequence) -> None:
        source.engine.release(sequence)
        target.engine.join(sequence)
        self._clock.settle(source.nudge)
        self._clock.settle(target.nudge)


def note_outcome(outcome: Outcome, now_s: float) -> None:
    """Write down when requests got their first token, and their last."""
    for sequence in outcome.first:
        if sequence.first_token_s is None:
            sequence.first_token_s = now_s
    for sequence in outcome.finished:
        sequence.finish(now_s)
