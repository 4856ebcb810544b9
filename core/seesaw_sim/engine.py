"""One engine under one layout, with continuous batching and chunked prefill like vLLM's.

An engine works in rounds. In a round each pipeline stage runs one micro-batch for every group of
requests; there are as many groups as stages. The chunks of one prompt may be in consecutive
micro-batches, as in vLLM's V1 scheduler. Rounds that only decode are simulated many at a time, up
to the next one that ends a request or fills the memory.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field

from seesaw_core.errors import CapacityError
from seesaw_core.planner.costs import MicroBatch, StepCosts
from seesaw_sim.groups import Group, is_current
from seesaw_sim.sequences import Sequence

# Share of the pool that admission leaves free. Source: ``watermark`` of vLLM 0.5.4, the paper's
# baseline. Deviation: vLLM 0.32 leaves none unless its ``--watermark`` is set.
_WATERMARK = 0.01


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Requests that got their first token, finished, or were prefilled in a stretch of rounds."""

    first: list[Sequence] = field(default_factory=list)
    finished: list[Sequence] = field(default_factory=list)
    prefilled: list[Sequence] = field(default_factory=list)


class Engine:
    """Call order: ``take`` and ``join`` at any time; ``start``, then ``finish`` at its end.

    With ``only_prefills`` a request is done once its prompt is computed. Its KV is in the buffer by
    then; with ``keeps_kv`` it stays in the engine until ``release``.
    Units: tokens, seconds.
    """

    def __init__(
        self,
        costs: StepCosts,
        *,
        capacity_tokens: int,
        step_tokens: int,
        max_requests: int,
        only_prefills: bool = False,
        keeps_kv: bool = False,
    ) -> None:
        self.costs = costs
        self.capacity_tokens = capacity_tokens
        self.used_tokens = 0
        self.peak_tokens = 0
        self.num_preemptions = 0
        self.num_generated = 0
        self.num_running = 0
        self.waiting: deque[Sequence] = deque()
        self._step_tokens = step_tokens
        self.max_requests = max_requests
        self.only_prefills = only_prefills
        self._keeps_kv = keeps_kv
        self._prefilling: dict[int, Sequence] = {}
        self._groups = [Group() for _ in range(costs.layout.pipeline)]
        self._newest: list[Sequence] = []
        self._fresh: list[Sequence] = []
        self._joining: list[Sequence] = []
        self._round = 0
        self._decode_halts = False
        self._began_s = 0.0
        self._rounds = 0
        self._ended_s = -1.0

    # ---- arrivals ----

    def take(self, sequence: Sequence) -> None:
        """Queue a request whose prompt is computed here. Raises: CapacityError if it never fits."""
        wanted = sequence.prompt_left + (0 if self.only_prefills else sequence.output_left)
        if wanted > self.admissible_tokens:
            raise CapacityError(
                f"a request of {wanted:,} tokens does not fit into the {self.admissible_tokens:,} "
                f"tokens of KV under {self.costs.layout}"
            )
        self.waiting.append(sequence)

    @property
    def admissible_tokens(self) -> int:
        return int(self.capacity_tokens * (1 if self.only_prefills else 1 - _WATERMARK))

    def has_room_for(self, num_tokens: int) -> bool:
        return (
            self.num_running < self.max_requests
            and self.used_tokens + num_tokens <= self.admissible_tokens
        )

    def reserve(self, sequence: Sequence) -> None:
        """Reserve room for KV that will arrive. Requires: there is room."""
        self.num_running += 1
        self._hold(sequence.prompt_tokens)

    def join(self, sequence: Sequence) -> None:
        """Add a request whose KV has arrived; it decodes from the next round on.

        Requires: ``reserve`` was called for it.
        """
        self._joining.append(sequence)
        if not self.is_busy:
            self._take_joining()

    def _take_joining(self) -> None:
        for sequence in self._joining:
            sequence.prompt_left = 0
            sequence.context = sequence.prompt_tokens
            self._fresh.append(sequence)
            self._decode(sequence, min(self._groups, key=lambda g: g.num_decoding))
        self._joining.clear()

    # ---- rounds ----

    @property
    def is_busy(self) -> bool:
        return self._rounds > 0

    def start(self, now_s: float) -> float | None:
        """Begin the next rounds. Returns when they end, or None if there is nothing to do."""
        assert not self._rounds, "the last rounds have not been finished"
        self._make_room()
        self._admit()
        if not self.num_running:
            return None
        if self._fill_chunks():
            self._rounds = 1
        else:
            self._rounds = self._plain_rounds()
            if not self._rounds:  # the KV of all requests has yet to arrive
                return None
        self._began_s = now_s
        if now_s > self._ended_s:
            self._began_s += self._fill_slots * self._slot_s(0.0)
        return self._began_s + self._duration_s(self._rounds)

    def cut(self, now_s: float) -> float:
        """Cut the stretch to end with its next round. Returns when that ends."""
        if self._rounds > 1:
            low, high = 1, self._rounds
            while low < high:
                middle = (low + high) // 2
                if self._began_s + self._duration_s(middle) >= now_s:
                    high = middle
                else:
                    low = middle + 1
            self._rounds = low
        return self._began_s + self._duration_s(self._rounds)

    def finish(self, now_s: float) -> Outcome:
        """End the rounds. Returns their outcome."""
        self._ended_s = now_s
        rounds, self._rounds = self._rounds, 0
        if self._decode_halts:
            rounds = 0
        self._round += rounds
        outcome = Outcome(first=self._fresh)
        self._fresh = []
        for group in self._groups:
            grown = rounds * group.num_decoding
            group.context += grown
            self.num_generated += grown
            self._hold(grown)
            self._end_decoding(group, outcome)
        self._end_chunks(outcome)
        self._take_joining()
        return outcome

    def _end_decoding(self, group: Group, outcome: Outcome) -> None:
        heap = group.decoding
        while heap and (heap[0][0] <= self._round or not is_current(heap[0])):
            entry = heapq.heappop(heap)
            if is_current(entry):
                sequence = entry[2]
                self._stop_decoding(sequence)
                sequence.output_left = 0
                outcome.finished.append(sequence)
                self._leave(sequence)

    def _end_chunks(self, outcome: Outcome) -> None:
        ended = []
        for group in self._groups:
            for sequence, tokens in group.parts:
                sequence.prompt_left -= tokens
                if not sequence.prompt_left:
                    ended.append((sequence, group))
            group.chunk, group.chunk_pairs, group.parts = 0, 0.0, []
        for sequence, group in ended:
            del self._prefilling[sequence.number]
            if self.only_prefills:
                outcome.prefilled.append(sequence)
                self.num_running -= 1
                if not self._keeps_kv:
                    self.release(sequence)
                continue
            outcome.first.append(sequence)
            sequence.output_left -= 1
            self.num_generated += 1
            self._hold(1)
            sequence.context += 1
            if sequence.output_left:
                self._decode(sequence, group)
            else:
                outcome.finished.append(sequence)
                self._leave(sequence)

    # ---- memory ----

    def _hold(self, num_tokens: int) -> None:
        self.used_tokens += num_tokens
        self.peak_tokens = max(self.peak_tokens, self.used_tokens)

    def release(self, sequence: Sequence) -> None:
        """Free the KV of a request."""
        self.used_tokens -= sequence.context
        sequence.context = 0

    def _leave(self, sequence: Sequence) -> None:
        self.num_running -= 1
        self.release(sequence)

    def _admit(self) -> None:
        while self.waiting and self.has_room_for(self.waiting[0].prompt_left):
            sequence = self.waiting.popleft()
            self.num_running += 1
            sequence.context = sequence.prompt_left
            self._hold(sequence.context)
            sequence.prompt_left -= sequence.cached
            sequence.cached = 0
            self._prefilling[sequence.number] = sequence

    def _make_room(self) -> None:
        """Preempt the newest requests until all others have room for their next token."""
        while self._num_decoding + len(self._prefilling) + self.used_tokens > self.capacity_tokens:
            while self._newest and not self._newest[-1].is_running:
                self._newest.pop()
            if not self._newest:
                return
            sequence = self._newest.pop()
            context = sequence.context + self._round - sequence.since_round
            sequence.output_left -= self._round - sequence.since_round
            self._stop_decoding(sequence)
            self._leave(sequence)
            sequence.prompt_left = context
            self.waiting.appendleft(sequence)
            self.num_preemptions += 1

    @property
    def _num_decoding(self) -> int:
        return sum(group.num_decoding for group in self._groups)

    # ---- one round ----

    def _decode(self, sequence: Sequence, group: Group) -> None:
        sequence.is_running = True
        self._newest.append(sequence)
        sequence.group = self._groups.index(group)
        sequence.since_round = self._round
        group.num_decoding += 1
        group.context += sequence.context
        sequence.ends_round = self._round + sequence.output_left
        heapq.heappush(group.decoding, (sequence.ends_round, sequence.number, sequence))

    def _stop_decoding(self, sequence: Sequence) -> None:
        group = self._groups[sequence.group]
        sequence.is_running = False
        sequence.context += self._round - sequence.since_round
        sequence.since_round = self._round
        group.num_decoding -= 1
        group.context -= sequence.context

    def _fill_chunks(self) -> bool:
        """Add prefill tokens to the groups' micro-batches. Returns whether there are any."""
        if not self._prefilling:
            return False
        groups = iter(sorted(self._groups, key=lambda g: g.num_decoding))
        group = next(groups)
        for sequence in self._prefilling.values():
            left = self._fill(group, sequence, sequence.prompt_left)
            while left:
                following = next(groups, None)
                if following is None:
                    return True
                group = following
                left = self._fill(group, sequence, left)
        return True

    def _fill(self, group: Group, sequence: Sequence, left: int) -> int:
        """Add as much of a prompt as fits to a group's micro-batch. Returns the tokens left."""
        tokens = min(left, self._step_tokens - group.num_decoding - group.chunk)
        if tokens <= 0:
            return left
        group.add(sequence, tokens, before=sequence.context - left)
        return left - tokens

    def _plain_rounds(self) -> int:
        """Return how many rounds pass before a request ends or the memory is full."""
        decoding, soonest = 0, 0
        for group in self._groups:
            heap = group.decoding
            while heap and not is_current(heap[0]):
                heapq.heappop(heap)
            if heap:
                soonest = min(soonest or heap[0][0], heap[0][0])
            decoding += group.num_decoding
        if not decoding:
            return 0
        if self._fresh:  # end after one round, to record the time of their first token
            return 1
        room = (self.capacity_tokens - self.used_tokens) // decoding
        return max(1, min(soonest - self._round, room))

    def _duration_s(self, rounds: int) -> float:
        """Seconds of ``rounds`` rounds. Contexts grow evenly, so the middle round is the mean."""
        slots = len(self._groups) if self._num_decoding else self._num_active
        round_s = slots * self._slot_s((rounds - 1) / 2)
        if self.only_prefills:
            round_s = max(round_s, self.costs.kv_copy_s(sum(g.chunk for g in self._groups)))
        return rounds * round_s

    @property
    def _fill_slots(self) -> int:
        """Slots that the first round takes longer than the next ones, since the pipeline is empty.

        The last of n micro-batches leaves P stages after n + P - 1 slots. The next round may follow
        n slots after the first, or P slots if tokens must be sampled before the next are computed.
        """
        return (self._num_active if self._num_decoding else len(self._groups)) - 1

    @property
    def _num_active(self) -> int:
        """The number of micro-batches in a round."""
        return sum(bool(g.num_decoding or g.chunk) for g in self._groups)

    def _slot_s(self, grown: float) -> float:
        """Seconds of a stage for the longest micro-batch, after ``grown`` more tokens each."""
        longest_s = 0.0
        for group in self._groups:
            num_decoding = 0 if self._decode_halts else group.num_decoding
            if not num_decoding and not group.chunk:
                continue
            context = group.context if num_decoding else 0
            step_s = self.costs.step_s(
                MicroBatch(
                    prefill_tokens=group.chunk,
                    prefill_pairs=group.chunk_pairs,
                    decode_requests=num_decoding,
                    decode_context=context + grown * num_decoding,
                    sampled=num_decoding + (1 if group.chunk else 0),
                )
            )
            longest_s = max(longest_s, step_s)
        return longest_s
