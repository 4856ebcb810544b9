"""Prompts and instances are divided as the cheapest of all divisions, found by trying each."""

from collections.abc import Iterator, Sequence
from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesaw_core.elastic.batching import Batch, divide
from seesaw_core.elastic.costs import PrefillCost
from seesaw_core.errors import BufferFullError

COSTS = {
    degree: PrefillCost(
        alpha_s=0.01 + 0.001 * degree,
        beta_s=2e-5 / degree * (1 + 0.05 * degree),
        gamma_s=2e-10 / degree,
    )
    for degree in range(1, 5)
}


def latency(lengths: Sequence[int], degree: int) -> float:
    return COSTS[degree].seconds(lengths) * len(lengths)


def cheapest(lengths: Sequence[int], free_tokens: Sequence[int]) -> float:
    """Try every division."""
    if not lengths:
        return 0.0
    best = inf
    for size in range(1, len(lengths) + 1):
        for start in range(len(free_tokens)):
            for stop in range(start + 1, len(free_tokens) + 1):
                if sum(lengths[:size]) <= sum(free_tokens[start:stop]):
                    rest = cheapest(lengths[size:], free_tokens[stop:])
                    best = min(best, latency(lengths[:size], stop - start) + rest)
    return best


def checked(
    batches: Sequence[Batch], lengths: Sequence[int], free_tokens: Sequence[int]
) -> Iterator[float]:
    """Yield the latency of each batch, which has its prompts, its instances and enough room."""
    prompt = instance = 0
    for batch in batches:
        assert batch.first_prompt == prompt
        assert batch.first_instance >= instance
        own = lengths[batch.first_prompt : batch.stop_prompt]
        assert sum(own) <= sum(free_tokens[batch.first_instance : batch.stop_instance])
        yield latency(own, batch.stop_instance - batch.first_instance)
        prompt, instance = batch.stop_prompt, batch.stop_instance
    assert prompt == len(lengths)


@given(
    lengths=st.lists(st.integers(1, 100_000), min_size=1, max_size=6),
    free_tokens=st.lists(st.integers(0, 200_000), min_size=1, max_size=4),
)
def test_no_division_is_cheaper(lengths: list[int], free_tokens: list[int]) -> None:
    lengths.sort(reverse=True)
    best = cheapest(lengths, free_tokens)
    if best == inf:
        with pytest.raises(BufferFullError, match="do not fit into"):
            divide(lengths, free_tokens, COSTS)
        return
    batches = divide(lengths, free_tokens, COSTS)
    assert sum(checked(batches, lengths, free_tokens)) == pytest.approx(best, rel=1e-5)


def by_loops(lengths: Sequence[int], free_tokens: Sequence[int]) -> float:
    """The same dynamic programme, one batch on one group at a time."""
    best = [[0.0] + [inf] * len(lengths) for _ in range(len(free_tokens) + 1)]
    for stop in range(1, len(free_tokens) + 1):
        for last in range(1, len(lengths) + 1):
            options = [best[stop - 1][last]]
            for first in range(stop):
                tokens = squares = 0
                for size, length in enumerate(reversed(lengths[:last]), 1):
                    tokens, squares = tokens + length, squares + length**2
                    if tokens > sum(free_tokens[first:stop]):
                        break
                    seconds = COSTS[stop - first].of_sums(tokens, squares)
                    options.append(best[first][last - size] + size * seconds)
            best[stop][last] = min(options)
    return best[-1][-1]


@pytest.mark.parametrize("count", [49, 50, 51, 99, 100, 101, 130])
@pytest.mark.parametrize("free_tokens", [[300_000] * 4, [900_000, 400_000, 200_000, 100_000]])
def test_no_division_of_many_prompts_is_cheaper(count: int, free_tokens: list[int]) -> None:
    random = Random(count)
    lengths = sorted((random.randrange(1, 9_000) for _ in range(count)), reverse=True)
    batches = divide(lengths, free_tokens, COSTS)
    best = by_loops(lengths, free_tokens)
    assert sum(checked(batches, lengths, free_tokens)) == pytest.approx(best, rel=1e-5)


def test_a_long_prompt_gets_more_instances_than_short_ones_together() -> None:
    long, *short = divide([100_000, 50, 50, 50], [200_000] * 4, COSTS)
    assert (long.stop_prompt, long.stop_instance) == (1, 3)
    assert [batch.stop_prompt for batch in short] == [4]
