"""Disaggregated engines: prefill and decode have their own devices, and KV is sent between them."""

from collections import deque
from functools import partial

from seesaw_core.errors import CapacityError
from seesaw_sim.clock import Clock
from seesaw_sim.engine import Engine, Outcome
from seesaw_sim.replicas import Journal, Runner, note_outcome
from seesaw_sim.sequences import Sequence


class DisaggregatedServer:
    """A replica with prefill engines, decode engines and a link between them.

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
        """Take a request. Raises: CapacityError if it fits no engine of either phase."""
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
