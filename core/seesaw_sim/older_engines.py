"""Engines that schedule prompts otherwise than vLLM does today: the baselines of the papers.

Source: the schedulers of vLLM 0.3, of LightLLM in its two modes, and of LoongServe's artefact with
``--use_fixed_sp``.
"""

from collections.abc import Iterator

from seesaw_core.planner.costs import StepCosts
from seesaw_sim.engine import Engine
from seesaw_sim.groups import is_current
from seesaw_sim.sequences import Sequence


class WholePromptEngine(Engine):
    """Prefills whole prompts in steps of their own, while the requests that decode stand still.

    Prompts of one step are padded to the longest, and at most ``padding_tokens`` are padding; None
    stands for kernels that need no padding. At most ``step_tokens`` go into one step, padding
    included. ``decode_steps`` run between two such steps, if a request decodes.
    Requires: one pipeline stage.
    """

    def __init__(
        self,
        costs: StepCosts,
        *,
        capacity_tokens: int,
        step_tokens: int,
        max_requests: int,
        padding_tokens: int | None = None,
        decode_steps: int = 0,
    ) -> None:
        super().__init__(
            costs,
            capacity_tokens=capacity_tokens,
            step_tokens=step_tokens,
            max_requests=max_requests,
        )
        self._padding_tokens = padding_tokens
        self._decode_steps = decode_steps
        self._prefilled_round = -decode_steps

    def _fill_chunks(self) -> bool:
        self._decode_halts = bool(self._prefilling) and not self._steps_left
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
        self._prefilled_round = self._round
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

    def _plain_rounds(self) -> int:
        rounds = super()._plain_rounds()
        return min(rounds, self._steps_left) if self._prefilling else rounds

    @property
    def _steps_left(self) -> int:
        """Decode steps until prompts may be prefilled."""
        if not self._num_decoding:
            return 0
        return max(0, self._prefilled_round + self._decode_steps - self._round)


class ChunkApieceEngine(Engine):
    """Every prompt that is being prefilled advances by up to ``step_tokens`` in every step.

    Source: ``splitfuse_block_size`` of LightLLM, which counts for each request by itself.
    """

    def _fill_chunks(self) -> bool:
        (group,) = self._groups
        for sequence in self._prefilling.values():
            tokens = min(sequence.prompt_left, self._step_tokens)
            group.add(sequence, tokens, before=sequence.context - sequence.prompt_left)
        return bool(self._prefilling)


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
