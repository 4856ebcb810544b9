"""A replica that re-shards, as the worker does: one pair of engines that take turns.

What to do next is asked of the phase policy in :mod:`seesaw_core.resharding.policy`, the worker's
own; here its steps are carried out on the virtual clock.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from seesaw_core.errors import CapacityError
from seesaw_core.resharding.blocks import num_blocks_for
from seesaw_core.resharding.policy import (
    Admit,
    Costs,
    InPlace,
    Phase,
    PhasePolicy,
    Switch,
    View,
    Wait,
)
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
    policy: PhasePolicy
    costs: Costs
    buffer_tokens: int


class SeesawServer:
    """Call order: :meth:`take` at any time. ``on_change`` hears of every change that counts."""

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
        self._policy = pair.policy
        self._costs = pair.costs
        self._capacity = pair.buffer_tokens // _BLOCK_TOKENS * _BLOCK_TOKENS
        self._journal = journal
        self._on_change = on_change
        self._prefill = Runner(clock, pair.prefill, self._prefilled, self._noting("prefill"))
        self._decode = Runner(clock, pair.decode, self._decoded, self._noting("decode"))
        self._prefill.may_run = False
        self._waiting: deque[Sequence] = deque()
        self._view_tokens: tuple[int, ...] | None = None
        self._num_prefilling = 0
        self._num_decoding = 0
        self._stored: deque[Sequence] = deque()
        self._held_tokens = 0
        self._stored_tokens = 0
        self._link_free_s = 0.0
        self._phase = Phase.DECODE
        self._phase_began_s = 0.0
        self._is_switching = False
        self._alarm: Timer | None = None
        self._windows = PrefillWindows()
        self._num_running = 0

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
        self._num_running += 1
        if _in_blocks(sequence.prompt_tokens) > self._capacity:
            self._num_decoding += 1
            self._decode.engine.take(sequence)
            self._clock.settle(self._decode.nudge)
            return
        self._waiting.append(sequence)
        self._view_tokens = None
        self._clock.settle(self._drive)

    def replica(self) -> Replica:
        """Snapshot of this server for the router's wave policy."""
        waiting = sum(self._head_of_waiting())
        return Replica(
            name=f"{self.number:04d}",
            num_running=self._num_running,
            accepts=Intake.OPEN if self._phase is Phase.PREFILL else Intake.WAVES,
            room_tokens=max(0, self._capacity - self._held_tokens - waiting),
            capacity_tokens=self._capacity,
            window_age_s=self._windows.age_s(self._clock.now_s),
            cycle_s=self._windows.cycle_s,
        )

    # ---- steps of the policy ----

    def _drive(self) -> None:
        """Carry out steps until there is one to wait for."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        while not self._is_switching:
            match self._policy.next_step(self._view()):
                case Admit(count=count):
                    self._admit(count)
                case InPlace(count=count):
                    self._prefill_in_place(count)
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

    def _view(self) -> View:
        now_s = self._clock.now_s
        return View(
            phase=self._phase,
            phase_age_s=now_s - self._phase_began_s,
            waiting_tokens=self._head_of_waiting(),
            oldest_wait_s=now_s - self._waiting[0].arrival_s if self._waiting else 0.0,
            num_prefilling=self._num_prefilling,
            num_decoding=self._num_decoding,
            decode_has_room=self._num_decoding < self._decode.engine.max_requests,
            free_tokens=self._capacity - self._held_tokens,
            stored_tokens=self._stored_tokens,
            capacity_tokens=self._capacity,
            block_size=_BLOCK_TOKENS,
            costs=self._costs,
        )

    def _head_of_waiting(self) -> tuple[int, ...]:
        """As many prompts as the buffer could ever take at once: the policy needs no more."""
        if self._view_tokens is None:
            head, total = [], 0
            for sequence in self._waiting:
                head.append(sequence.prompt_tokens)
                total += sequence.prompt_tokens
                if total > self._capacity:
                    break
            self._view_tokens = tuple(head)
        return self._view_tokens

    def _admit(self, count: int) -> None:
        for sequence in self._next(count):
            self._num_prefilling += 1
            self._held_tokens += _in_blocks(sequence.prompt_tokens)
            self._prefill.engine.take(sequence)
        self._note_buffer()
        self._clock.settle(self._prefill.nudge)

    def _prefill_in_place(self, count: int) -> None:
        for sequence in self._next(count):
            self._num_decoding += 1
            self._decode.engine.take(sequence)
        self._clock.settle(self._decode.nudge)

    def _next(self, count: int) -> list[Sequence]:
        self._view_tokens = None
        return [self._waiting.popleft() for _ in range(count)]

    def _switch(self, to: Phase) -> None:
        self._is_switching = True
        old = self._decode if to is Phase.PREFILL else self._prefill
        old.stop(lambda: self._hand_over(to))

    def _hand_over(self, to: Phase) -> None:
        new = self._prefill if to is Phase.PREFILL else self._decode
        began_s = self._clock.now_s
        ends_s = began_s + new.engine.costs.transition_s()
        self._journal.num_transitions += 1
        self._journal.note(self.number, "transition", began_s, ends_s)
        self._phase = to
        if to is Phase.PREFILL:
            self._windows.opened(began_s)
        self._on_change()
        self._clock.at(ends_s, lambda: self._own(new))

    def _own(self, new: Runner) -> None:
        self._is_switching = False
        self._phase_began_s = self._clock.now_s
        self._load()
        new.resume()
        self._clock.settle(self._drive)

    # ---- what the engines tell ----

    def _prefilled(self, outcome: Outcome) -> None:
        for sequence in outcome.prefilled:
            self._num_prefilling -= 1
            self._num_decoding += 1
            self._stored.append(sequence)
            self._stored_tokens += _in_blocks(sequence.prompt_tokens)
        self._note_buffer()
        self._load()
        self._changed()

    def _decoded(self, outcome: Outcome) -> None:
        note_outcome(outcome, self._clock.now_s)
        self._num_decoding -= len(outcome.finished)
        self._num_running -= len(outcome.finished)
        self._load()
        if outcome.first or outcome.finished:
            self._changed()

    def _load(self) -> None:
        """Bring KV from the buffer to the decode engine, as far as there is room."""
        engine = self._decode.engine
        while self._stored and engine.has_room_for(self._stored[0].prompt_tokens):
            sequence = self._stored.popleft()
            engine.reserve(sequence)
            copied_s = engine.costs.kv_copy_s(sequence.prompt_tokens)
            self._link_free_s = max(self._link_free_s, self._clock.now_s) + copied_s
            self._clock.at(self._link_free_s, partial(self._loaded, sequence))

    def _loaded(self, sequence: Sequence) -> None:
        self._held_tokens -= _in_blocks(sequence.prompt_tokens)
        self._stored_tokens -= _in_blocks(sequence.prompt_tokens)
        self._note_buffer()
        self._decode.engine.join(sequence)
        if self._decode.may_run:
            self._clock.settle(self._decode.nudge)
        self._changed()

    def _note_buffer(self) -> None:
        self._journal.note_buffer(
            self.number, self._clock.now_s, self._held_tokens, self._stored_tokens
        )

    def _changed(self) -> None:
        self._clock.settle(self._drive)
        self._on_change()

    def _noting(self, what: str) -> Callable[[float, float], None]:
        return lambda start_s, stop_s: self._journal.note(self.number, what, start_s, stop_s)


def _in_blocks(num_tokens: int) -> int:
    return num_blocks_for(num_tokens, _BLOCK_TOKENS) * _BLOCK_TOKENS
