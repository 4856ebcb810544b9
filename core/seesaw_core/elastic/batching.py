"""Divides prompts into batches and instances into groups, one group for each batch.

Prompts go from the longest to the shortest and instances from the emptiest to the fullest;
neighbours share a batch or a group. Of all such divisions the one in which prompts wait least in
sum for their iterations is found by a dynamic programme:

    f[i][k] = min over j < i, l < k of  f[j][l] + (i - j) * T(R[j..i], E[l..k])

Source: Wu et al., LoongServe (arXiv 2404.09526), section 5.3.
Deviation: the paper narrows j and l by the choices of neighbours, which free memory can make
wrong; here all of them are compared, as arrays. Its artefact divides each prompt's latency by its
length, which leaves a long prompt one instance as soon as some short ones come with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from seesaw_core.elastic.costs import PrefillCost
from seesaw_core.errors import BufferFullError

_Array: TypeAlias = np.ndarray  # of float32, as all costs are
_INFINITE = np.float32(np.inf)
_BLOCK_PROMPTS = 50  # more blocks are smaller ones, and more calls of numpy


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Prompts ``[first_prompt, stop_prompt)`` on instances ``[first_instance, stop_instance)``.

    Units: positions in the sequences that were given.
    """

    first_prompt: int
    stop_prompt: int
    first_instance: int
    stop_instance: int


def divide(
    lengths: Sequence[int], free_tokens: Sequence[int], costs: Mapping[int, PrefillCost]
) -> tuple[Batch, ...]:
    """Return the batches with the least input latency in sum, in the order of the prompts.

    lengths: [prompts] tokens of each. free_tokens: [instances] that each can keep.
    Requires: ``costs`` for each degree up to the number of instances.
    Raises: BufferFullError if no division keeps each batch within its group's free tokens.
    """
    table = _Table(lengths, free_tokens, costs)
    num_prompts, num_instances = len(lengths), len(free_tokens)
    best = np.full((num_instances + 1, num_prompts + 1), np.inf, dtype=np.float32)
    best[:, 0] = 0.0
    for stop in range(1, num_instances):
        np.minimum(best[stop - 1], table.from_start(stop), out=best[stop])
        if stop > 1:
            np.minimum(best[stop], table.least(stop, best), out=best[stop])
    best[num_instances, num_prompts] = min(
        best[num_instances - 1, num_prompts],
        table.columns(num_prompts, num_instances, best).min(),
    )
    if not np.isfinite(best[num_instances, num_prompts]):
        raise BufferFullError(
            f"{num_prompts} prompts of {sum(lengths):,} tokens do not fit into the "
            f"{sum(free_tokens):,} free tokens of {num_instances} instances"
        )
    return tuple(_trace_back(best, table))[::-1]


class _Block:
    """The cost of every batch whose last prompt is one of some neighbours, on every group.

    ``tokens`` has the axes [stop prompt, first prompt], ``costs`` [stop prompt, degree - 1, first
    prompt]: for one stop all degrees and first prompts lie side by side, as long rows.
    """

    def __init__(self, part: slice, sums: _Array, costs: _Array, rooms: _Array) -> None:
        self.part = part
        num_prompts, tokens, squares = (row[part, None] - row[None, : part.stop] for row in sums)
        self.tokens = tokens.astype(np.float32)
        terms = np.stack((num_prompts, tokens * num_prompts, squares * num_prompts), axis=1)
        self.costs = np.matmul(costs, terms.astype(np.float32))
        self.most_tokens = self.tokens.max()
        tight = int(np.searchsorted(rooms, self.most_tokens))  # wider groups have room for all
        too_long = self.tokens[:, None] > rooms[:tight, None]
        np.copyto(self.costs[:, :tight], _INFINITE, where=too_long)
        no_prompts = num_prompts[:, None, part.start :] <= 0
        np.copyto(self.costs[:, :, part.start :], _INFINITE, where=no_prompts)


class _Table:
    """The costs by blocks of stop prompts, since no batch begins after its stop."""

    def __init__(
        self,
        lengths: Sequence[int],
        free_tokens: Sequence[int],
        costs: Mapping[int, PrefillCost],
    ) -> None:
        degrees = range(1, len(free_tokens) + 1)
        self._room = _sums(free_tokens)
        # The most room of any group of each degree.
        self._rooms = np.array([(self._room[d:] - self._room[:-d]).max() for d in degrees])
        factors = np.array(
            [(costs[d].alpha_s, costs[d].beta_s, costs[d].gamma_s) for d in degrees],
            dtype=np.float32,
        )
        sums = np.stack((np.arange(len(lengths) + 1), _sums(lengths), _sums(np.square(lengths))))
        bounds = [*range(0, max(1, len(lengths)), _BLOCK_PROMPTS), len(lengths) + 1]
        self._blocks = [
            _Block(slice(*bound), sums, factors, self._rooms) for bound in pairwise(bounds)
        ]
        self._totals = np.empty(max(block.costs.size for block in self._blocks), dtype=np.float32)

    def from_start(self, stop: int) -> _Array:
        """Return [stop prompt] the cost of one batch from the first prompt on ``[0, stop)``."""
        room = self._room[stop]
        return np.concatenate(
            [
                np.where(block.tokens[:, 0] <= room, block.costs[:, stop - 1, 0], _INFINITE)
                for block in self._blocks
            ]
        )

    def least(self, stop: int, best: _Array) -> _Array:
        """Return [stop prompt] the least cost with any ``[first, stop)`` as the last group, where
        ``first`` is at least 1.

        best: [stop, stop prompt] the least costs so far.
        """
        return np.concatenate([self._least(block, stop, best) for block in self._blocks])

    def _least(self, block: _Block, stop: int, best: _Array) -> _Array:
        width, num_groups = block.part.stop, stop - 1
        before = best[stop - 1 : 0 : -1, :width].reshape(-1)
        costs = block.costs.reshape(len(block.tokens), -1)[:, : len(before)]
        totals = self._totals[: costs.size].reshape(costs.shape)
        np.add(costs, before, out=totals)
        rooms = self._room[stop] - self._room[stop - 1 : 0 : -1]
        tight = rooms < np.minimum(self._rooms[:num_groups], block.most_tokens)
        for index in np.flatnonzero(tight):
            group = totals[:, index * width : (index + 1) * width]
            np.copyto(group, _INFINITE, where=block.tokens > rooms[index])
        least: _Array = totals.min(axis=1)
        return least

    def columns(self, stop_prompt: int, stop: int, best: _Array) -> _Array:
        """Return [first, first prompt] what is compared for one stop prompt, with all firsts."""
        block = self._blocks[min(stop_prompt // _BLOCK_PROMPTS, len(self._blocks) - 1)]
        at = stop_prompt - block.part.start
        costs = block.costs[at, stop - 1 :: -1]
        fits = block.tokens[at] <= self._room[stop] - self._room[:stop, None]
        return np.where(fits, costs + best[:stop, : block.part.stop], _INFINITE)


def _sums(values: Sequence[float] | _Array) -> _Array:
    """Return [len + 1], in float64, the sums of the first values."""
    return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))


def _trace_back(best: _Array, table: _Table) -> Iterator[Batch]:
    """Yield the batches that reach the least cost of all prompts, the last batch first."""
    stop_prompt, stop = best.shape[1] - 1, best.shape[0] - 1
    while stop_prompt:
        while best[stop - 1, stop_prompt] == best[stop, stop_prompt]:
            stop -= 1  # the last instance stays out
        costs = table.columns(stop_prompt, stop, best)
        first, first_prompt = divmod(int(costs.argmin()), costs.shape[1])
        yield Batch(
            first_prompt=first_prompt,
            stop_prompt=stop_prompt,
            first_instance=first,
            stop_instance=stop,
        )
        stop_prompt, stop = first_prompt, first
