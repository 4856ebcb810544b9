"""Parts of an attention merge into the whole, in whichever way each was computed."""

import pytest
import torch

from seesaw_worker.modes.elastic.kernels import Contexts, attend, empty_part, merge

SCALE = 0.125


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_two_halves_of_the_keys_merge_into_the_attention_over_all() -> None:
    query, key, value = drawn(7, 8, 64), drawn(50, 2, 64), drawn(50, 2, 64)
    halves = [attend(query, key[at], value[at], SCALE) for at in (slice(0, 19), slice(19, 50))]
    for merged, whole in zip(merge(*halves), attend(query, key, value, SCALE), strict=True):
        torch.testing.assert_close(merged, whole)


def test_no_keys_add_nothing_on_either_side() -> None:
    query, key, value = drawn(3, 4, 64), drawn(5, 2, 64), drawn(5, 2, 64)
    whole, none = attend(query, key, value, SCALE), empty_part(query)
    for merged in (merge(whole, none), merge(none, whole)):
        assert torch.equal(merged[0], whole[0])
        torch.testing.assert_close(merged[1], whole[1])
    both = merge(none, none)
    assert torch.equal(both[0], none[0])
    assert torch.equal(both[1], none[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_requests_of_any_lengths_see_their_own_slots_alone(dtype: torch.dtype) -> None:
    pool = drawn(40, 2, 2, 64).to(dtype)
    pool[39] = torch.nan  # nobody's
    order = torch.randperm(39, generator=torch.Generator().manual_seed(1))
    slots = [order[:1], order[1:30], order[:0], order[30:]]
    query = drawn(4, 8, 64).to(dtype)
    output, lse = Contexts(slots).attend(query, pool, SCALE)
    for row, each in enumerate(slots):
        wanted = attend(query[row : row + 1], pool[each, 0], pool[each, 1], SCALE)
        torch.testing.assert_close(output[row : row + 1], wanted[0], atol=8e-3, rtol=1e-2)
        torch.testing.assert_close(lse[:, row : row + 1], wanted[1], atol=1e-4, rtol=1e-4)
