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
from typing import TypeAlias

import numpy as np

from seesaw_core.elastic.costs import PrefillCost
from seesaw_core.errors import BufferFullError

_Array: TypeAlias = np.ndarray  # of float32, as all costs are


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
        best[stop] = table.from_start(stop)
        for first in range(1, stop):
            np.minimum(best[stop], table.least(first, stop, best[first]), out=best[stop])
        np.minimum(best[stop], best[stop - 1], out=best[stop])
    best[num_instances, num_prompts] = min(
        best[num_instances - 1, num_prompts],
        *(
            table.column(num_prompts, first, num_instances, best[first]).min()
            for first in range(num_instances)
        ),
    )
    if not np.isfinite(best[num_instances, num_prompts]):
        raise BufferFullError(
            f"{num_prompts} prompts of {sum(lengths):,} tokens do not fit into the "
            f"{sum(free_tokens):,} free tokens of {num_instances} instances"
        )
    return tuple(_trace_back(best, table))[::-1]


class _Table:
    """The cost of every batch on every group.

    Axes: [first prompt, stop prompt]. Batches that do not stop before the middle and those that do
    lie in blocks of their own, since no batch begins after its stop.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        free_tokens: Sequence[int],
        costs: Mapping[int, PrefillCost],
    ) -> None:
        self._room = _sums(free_tokens)
        middle = (len(lengths) + 1) // 2
        self._parts = (slice(0, middle), slice(middle, len(lengths) + 1))
        self._tokens = self._blocks(lengths)
        squares = self._blocks([length**2 for length in lengths])
        sizes = self._blocks([1] * len(lengths))
        for block, part in zip(sizes, self._parts, strict=True):
            block[np.tri(*block.shape, k=-part.start, dtype=bool)] = np.inf
        self._costs = {
            degree: [
                np.abs(costs[degree].of_sums(tokens, squared)) * size
                for tokens, squared, size in zip(self._tokens, squares, sizes, strict=True)
            ]
            for degree in range(1, len(free_tokens) + 1)
        }
        self._sums = [np.empty_like(block) for block in sizes]

    def from_start(self, stop: int) -> _Array:
        """Return [stop prompt] the cost of one batch from the first prompt on ``[0, stop)``."""
        return np.concatenate(
            [
                np.where(tokens[0] <= self._room[stop], costs[0], np.float32(np.inf))
                for costs, tokens in zip(self._costs[stop], self._tokens, strict=True)
            ]
        )

    def least(self, first: int, stop: int, before: _Array) -> _Array:
        """Return [stop prompt] the least cost with ``[first, stop)`` as the last group.

        before: [first prompt] the cost of the prompts before the last batch.
        """
        return np.concatenate(
            [
                self._totals(block, first, stop, before).min(axis=0)
                for block in range(len(self._sums))
            ]
        )

    def column(self, stop_prompt: int, first: int, stop: int, before: _Array) -> _Array:
        """Return [first prompt] what :meth:`least` compares for one stop prompt."""
        block = next(b for b, part in enumerate(self._parts) if stop_prompt < part.stop)
        at = stop_prompt - self._parts[block].start
        costs = self._costs[stop - first][block][:, at]
        fits = self._tokens[block][:, at] <= self._room[stop] - self._room[first]
        return np.where(fits, costs + before[: len(costs)], np.float32(np.inf))

    def _totals(self, block: int, first: int, stop: int, before: _Array) -> _Array:
        costs, tokens, totals = (
            self._costs[stop - first][block],
            self._tokens[block],
            self._sums[block],
        )
        np.add(costs, before[: len(costs), None], out=totals)
        room = self._room[stop] - self._room[first]
        if room < tokens[0, -1]:
            totals[tokens > room] = np.inf
        return totals

    def _blocks(self, values: Sequence[float]) -> list[_Array]:
        """Return the sums of each run of values, by blocks of stops."""
        sums = _sums(values)
        return [
            np.asarray(sums[part] - sums[: part.stop, None], dtype=np.float32)
            for part in self._parts
        ]


def _sums(values: Sequence[float]) -> _Array:
    """Return [len + 1], in float64, the sums of the first values."""
    return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))


def _trace_back(best: _Array, table: _Table) -> Iterator[Batch]:
    """Yield the batches that reach the least cost of all prompts, the last batch first."""
    stop_prompt, stop = best.shape[1] - 1, best.shape[0] - 1
    while stop_prompt:
        while best[stop - 1, stop_prompt] == best[stop, stop_prompt]:
            stop -= 1  # the last instance stays out
        costs = np.stack([table.column(stop_prompt, f, stop, best[f]) for f in range(stop)])
        first, first_prompt = divmod(int(costs.argmin()), costs.shape[1])
        yield Batch(
            first_prompt=first_prompt,
            stop_prompt=stop_prompt,
            first_instance=first,
            stop_instance=stop,
        )
        stop_prompt, stop = first_prompt, first
