"""Engines that schedule prompts otherwise than vLLM does today: the baselines of the papers.

Source: the schedulers of vLLM 0.3, of LightLLM in its two modes, and of LoongServe's artefact with
``--use_fixed_sp``.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from seesaw_core.planner.costs import StepCosts
from seesaw_sim.engine import Engine
from seesaw_sim.groups import is_current
from seesaw_sim.sequences import Sequence


class PacedEngine(Engine):
    """Looks for new requests only when ``pace`` steps have passed, or if no request decodes.

    Source: ``max_wait_tokens`` in the routers of LightLLM and LoongServe. With a pace of 1 it looks
    before every step, and prompts may be prefilled without end.
    """

    def __init__(
        self,
        costs: StepCosts,
        *,
        capacity_tokens: int,
        step_tokens: int,
        max_requests: int,
        pace: int = 1,
    ) -> None:
        super().__init__(
            costs,
            capacity_tokens=capacity_tokens,
            step_tokens=step_tokens,
            max_requests=max_requests,
        )
        self._pace = pace
        self._looked_round = 0
        self._looks = True

    def _admit(self) -> None:
        self._looks = not self._is_running or not self._rounds_to_look
        if self._looks:
            self._looked_round = self._round
            super()._admit()

    def _plain_rounds(self) -> int:
        rounds = super()._plain_rounds()
        if self.waiting or self._prefilling:
            return min(rounds, self._rounds_to_look or self._pace)
        return rounds

    @property
    def _is_running(self) -> bool:
        return self._num_decoding > 0

    @property
    def _rounds_to_look(self) -> int:
        passed = self._round - self._looked_round
        return -passed % self._pace if passed or self._pace == 1 else self._pace


class WholePromptEngine(PacedEngine):
    """Prefills whole prompts in steps of their own, while the requests that decode stand still.

    Prompts of one step are padded to the longest, and at most ``padding_tokens`` are padding; None
    stands for kernels that need no padding. At most ``step_tokens`` go into one step, padding
    included. Requires: one pipeline stage.
    """

    def __init__(
        self,
        costs: StepCosts,
        *,
        capacity_tokens: int,
        step_tokens: int,
        max_requests: int,
        pace: int = 1,
        padding_tokens: int | None = None,
    ) -> None:
        super().__init__(
            costs,
            capacity_tokens=capacity_tokens,
            step_tokens=step_tokens,
            max_requests=max_requests,
            pace=pace,
        )
        self._padding_tokens = padding_tokens

    def _fill_chunks(self) -> bool:
        self._decode_halts = bool(self._prefilling) and self._looks
        if not self._decode_halts:
            return False
        prompts = list(self._first_prompts())
        (group,) = self._groups
        for sequence in prompts:
            group.add(sequence, sequence.prompt_left, before=0)
        if self._padding_tokens is not None:
            longest = max(sequence.prompt_left for sequence in prompts)
            group.chunk = len(prompts) * longest
            group.chunk_pairs = group.chunk * longest / 2
        return True

    def _first_prompts(self) -> Iterator[Sequence]:
        """Yield the prompts of one step: the first, and more while they fit with it."""
        total = longest = 0
        for count, sequence in enumerate(self._prefilling.values(), 1):
            total += sequence.prompt_left
            longest = max(longest, sequence.prompt_left)
            if self._padding_tokens is None:
                fits = total <= self._step_tokens
            else:
                padded = count * longest
                fits = padded <= self._step_tokens and padded - total <= self._padding_tokens
            if count > 1 and not fits:
                return
            yield sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiling:
    """How an attention kernel divides chunks of prompts among a device's multiprocessors.

    Each thread block has one head and one tile of ``tile_tokens`` queries, for which it goes
    through all that stands before; each multiprocessor runs one block at a time. ``heads`` are
    those of one device.
    """

    multiprocessors: int
    heads: int
    tile_tokens: int

    def pairs(self, parts: list[tuple[int, int]]) -> float:
        """Return the (query, key) pairs that the device computes in this time if it is full.

        parts: of each prompt, the tokens before its chunk and those of the chunk.
        """
        tile = self.tile_tokens
        work = [
            tile * (before + (index + 1) * tile)
            for index in range(-(-max(tokens for _, tokens in parts) // tile))
            for _ in range(self.heads)
            for before, tokens in parts
            if index * tile < tokens
        ]
        busy = work[: self.multiprocessors]
        heapq.heapify(busy)
        for pairs in work[self.multiprocessors :]:
            heapq.heapreplace(busy, busy[0] + pairs)
        return max(busy) * self.multiprocessors / self.heads


class ChunkApieceEngine(PacedEngine):
    """Every prompt that is being prefilled advances by up to ``step_tokens`` in every step.

    Source: ``splitfuse_block_size`` of LightLLM, which counts for each request by itself.
    """

    def __init__(
        self,
        costs: StepCosts,
        *,
        capacity_tokens: int,
        step_tokens: int,
        max_requests: int,
        pace: int,
        tiling: Tiling,
    ) -> None:
        super().__init__(
            costs,
            capacity_tokens=capacity_tokens,
            step_tokens=step_tokens,
            max_requests=max_requests,
            pace=pace,
        )
        self._tiling = tiling

    def _fill_chunks(self) -> bool:
        if not self._prefilling:
            return False
        (group,) = self._groups
        parts = []
        for sequence in self._prefilling.values():
            tokens = min(sequence.prompt_left, self._step_tokens)
            before = sequence.context - sequence.prompt_left
            group.add(sequence, tokens, before=before)
            parts.append((before, tokens))
        group.chunk_pairs = self._tiling.pairs(parts)
        return True

    @property
    def _is_running(self) -> bool:
        return self.num_running > 0


class LongestContextEngine(Engine):
    """A decode step takes ``token_s`` more for each token of the longest context in it.

    So it is with kernels that give each head of a request one thread block: more requests run
    beside each other, but a long context is read by one multiprocessor.
    """

    def __init__(
        self,
        costs: StepCosts,
        *,
        capacity_tokens: int,
        step_tokens: int,
        max_requests: int,
        token_s: float,
    ) -> None:
        super().__init__(
            costs,
            capacity_tokens=capacity_tokens,
            step_tokens=step_tokens,
            max_requests=max_requests,
        )
        self._token_s = token_s

    def _slot_s(self, grown: float) -> float:
        longest = max(
            (
                sequence.context + self._round - sequence.since_round
                for group in self._groups
                for _, _, sequence in filter(is_current, group.decoding)
            ),
            default=0,
        )
        return super()._slot_s(grown) + self._token_s * (longest + grown if longest else 0)
