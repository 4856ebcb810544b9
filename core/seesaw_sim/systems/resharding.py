"""A replica that re-shards, as the worker does: one pair of engines that take turns.

The driver in :mod:`seesaw_core.resharding.driver`, the worker's own, keeps the books of the phase
policy; here its steps are carried out on the virtual clock, and what engines do is reported to it.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from seesaw_core.errors import CapacityError
from seesaw_core.resharding import events
from seesaw_core.resharding.driver import Driver, Rules
from seesaw_core.resharding.ledger import Ledger
from seesaw_core.resharding.policy import Admit, InPlace, Phase, Switch, Wait
from seesaw_core.routing.waves import Intake, Replica
from seesaw_core.routing.windows import PrefillWindows
from seesaw_sim.clock import Clock, Timer
from seesaw_sim.engine import Engine, Outcome
from seesaw_sim.replicas import Journal, Runner, note_outcome
from seesaw_sim.sequences import Sequence

_BLOCK_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two engines that take turns, and what decides between them.

    Units: ``buffer_tokens`` in tokens.
    """

    prefill: Engine
    decode: Engine
    rules: Rules
    buffer_tokens: int


def driver_of(rules: Rules, buffer_tokens: int) -> Driver:
    """A driver with empty books over a buffer of so many tokens, less what fills no block."""
    num_blocks = buffer_tokens // _BLOCK_TOKENS
    return Driver(rules, Ledger(num_blocks=num_blocks, block_size=_BLOCK_TOKENS))


class SeesawServer:
    """Call order: :meth:`take` at any time. ``on_change`` hears of every change that counts.

    Deviation: the router hears of a phase as its transition begins, the worker's when it has ended.
    """

    def __init__(
        self,
        clock: Clock,
        pair: Pair,
        *,
        number: int,
        journal: Journal,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.number = number
        self._clock = clock
        self._driver = driver_of(pair.rules, pair.buffer_tokens)
        self._journal = journal
        self._on_change = on_change
        self._prefill = Runner(clock, pair.prefill, self._prefilled, self._noting("prefill"))
        self._decode = Runner(clock, pair.decode, self._decoded, self._noting("decode"))
        self._prefill.may_run = False
        self._waiting: dict[str, Sequence] = {}
        self._stored: deque[Sequence] = deque()
        self._link_free_s = 0.0
        self._alarm: Timer | None = None
        self._owner = Phase.DECODE
        self._windows = PrefillWindows()

    def take(self, sequence: Sequence) -> None:
        """A prompt larger than the whole buffer goes in place at once.

        Raises: CapacityError if the request never fits the decode pool.
        """
        wanted = sequence.prompt_tokens + sequence.output_left
        if wanted > self._decode.engine.admissible_tokens:
            raise CapacityError(
                f"a request of {wanted:,} tokens does not fit into the decode pool of "
                f"{self._decode.engine.admissible_tokens:,}"
            )
        if not self._driver.may_wait(sequence.prompt_tokens):
            self._send_in_place(sequence)
            return
        self._waiting[sequence.name] = sequence
        self._observe(
            events.Arrived(
                request_id=sequence.name, key=sequence.name, num_tokens=sequence.prompt_tokens
            )
        )
        self._clock.settle(self._drive)

    def replica(self) -> Replica:
        """Snapshot of this server for the router's wave policy."""
        driver = self._driver
        return Replica(
            name=f"{self.number:04d}",
            num_running=driver.num_entries,
            accepts=Intake.OPEN if self._owner is Phase.PREFILL else Intake.WAVES,
            room_tokens=max(0, driver.ledger.free_tokens - driver.waiting.num_tokens),
            capacity_tokens=driver.ledger.capacity_tokens,
            window_age_s=self._windows.age_s(self._clock.now_s),
            cycle_s=self._windows.cycle_s,
        )

    def _observe(self, event: events.Event) -> None:
        self._driver.observe(event, self._clock.now_s)

    # ---- steps of the driver ----

    def _drive(self) -> None:
        """Carry out steps until there is one to wait for."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while not self._driver.is_switching:
            match self._driver.next_step(self._clock.now_s):
                case Admit(prompts=names):
                    self._admit(names)
                case InPlace(prompts=names):
                    for name in names:
                        self._send_in_place(self._waiting.pop(name))
                case Switch(to=to):
                    self._switch(to)
                case Wait(at_most_s=at_most_s):
                    if at_most_s is not None:
                        ends_s = self._clock.now_s + at_most_s
                        self._alarm = self._clock.at(ends_s, self._wake)
                    return

    def _wake(self) -> None:
        self._alarm = None
        self._clock.settle(self._drive)

    def _admit(self, names: Iterable[str]) -> None:
        for name in names:
            self._observe(events.Admitted(key=name))
            self._prefill.engine.take(self._waiting.pop(name))
        self._note_buffer()
        self._clock.settle(self._prefill.nudge)

    def _send_in_place(self, sequence: Sequence) -> None:
        self._observe(
            events.SentInPlace(request_id=sequence.name, num_tokens=sequence.prompt_tokens)
        )
        self._decode.engine.take(sequence)
        self._clock.settle(self._decode.nudge)

    def _switch(self, to: Phase) -> None:
        self._observe(events.TransitionBegan(to=to))
        old = self._decode if to is Phase.PREFILL else self._prefill
        old.stop(lambda: self._hand_over(to))

    def _hand_over(self, to: Phase) -> None:
        new = self._prefill if to is Phase.PREFILL else self._decode
        began_s, lasts_s = self._clock.now_s, new.engine.costs.transition_s()
        self._journal.num_transitions += 1
        self._journal.note(self.number, "transition", began_s, began_s + lasts_s)
        self._owner = to
        if to is Phase.PREFILL:
            self._windows.opened(began_s)
        self._on_change()
        self._clock.at(began_s + lasts_s, lambda: self._own(new, to, lasts_s))

    def _own(self, new: Runner, to: Phase, standstill_s: float) -> None:
        self._observe(events.TransitionEnded(to=to, standstill_s=standstill_s))
        self._load()
        new.resume()
        self._clock.settle(self._drive)

    # ---- what the engines tell ----

    def _prefilled(self, outcome: Outcome) -> None:
        for sequence in outcome.prefilled:
            self._observe(events.PrefillEnded(key=sequence.name))
            self._observe(events.Stored(key=sequence.name))
            self._observe(events.SentToLoad(request_id=sequence.name, key=sequence.name))
            self._stored.append(sequence)
        self._note_buffer()
        self._load()
        self._changed()

    def _decoded(self, outcome: Outcome) -> None:
        note_outcome(outcome, self._clock.now_s)
        for sequence in outcome.first:
            self._observe(events.Begun(request_id=sequence.name))
        for sequence in outcome.finished:
            self._observe(events.Ended(request_id=sequence.name, ending=events.Ending.FINISHED))
        self._load()
        if outcome.first or outcome.finished:
            self._changed()

    def _load(self) -> None:
        """Bring KV from the buffer to the decode engine, as far as there is room."""
        engine = self._decode.engine
        while self._stored and engine.has_room_for(self._stored[0].prompt_tokens):
            sequence = self._stored.popleft()
            engine.reserve(sequence)
            self._observe(events.Loading(request_id=sequence.name))
            copied_s = engine.costs.kv_copy_s(sequence.prompt_tokens)
            self._link_free_s = max(self._link_free_s, self._clock.now_s) + copied_s
            self._clock.at(self._link_free_s, partial(self._loaded, sequence))

    def _loaded(self, sequence: Sequence) -> None:
        self._observe(events.Released(request_id=sequence.name))
        self._note_buffer()
        self._decode.engine.join(sequence)
        if self._decode.may_run:
            self._clock.settle(self._decode.nudge)
        self._changed()

    def _note_buffer(self) -> None:
        ledger = self._driver.ledger
        held_tokens = ledger.capacity_tokens - ledger.free_tokens
        self._journal.note_buffer(self.number, self._clock.now_s, held_tokens, ledger.stored_tokens)

    def _changed(self) -> None:
        self._clock.settle(self._drive)
        self._on_change()

    def _noting(self, what: str) -> Callable[[float, float], None]:
        return lambda start_s, stop_s: self._journal.note(self.number, what, start_s, stop_s)
