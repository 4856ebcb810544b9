"""Parts of an attention merge into the whole, in whichever way each was computed."""

import pytest
import torch

from seesaw_worker.modes.elastic.kernels import Contexts, attend, empty_part, merge
from seesaw_worker.modes.elastic.memory import CpuMemory
from seesaw_worker.modes.elastic.slots import SlotTable

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
    memory = CpuMemory(torch.full((5, 2, 32, 128), 777.0).to(dtype), "vec")
    table = SlotTable(160, 32)
    kv = drawn(160, 2, 2, 64).to(dtype)
    lengths = {"a": 1, "b": 33, "c": 45, "d": 40}  # of d, a part is in the ends of others
    for key, length in lengths.items():
        slots = table.take(key, length)
        memory.write(slots, *kv[slots].unbind(1))
    contexts = [table.of(key) for key in (*lengths, "none")]
    assert [context.is_paged for context in contexts] == [True, True, True, False, True]
    query = drawn(5, 8, 64).to(dtype)
    output, lse = Contexts(contexts, query.device).attend(query, memory, SCALE)
    for row, context in enumerate(contexts):
        key, value = kv[context.tensor()].unbind(1)
        wanted = attend(query[row : row + 1], key, value, SCALE)
        torch.testing.assert_close(output[row : row + 1], wanted[0], atol=8e-3, rtol=1e-2)
        torch.testing.assert_close(lse[:, row : row + 1], wanted[1], atol=1e-4, rtol=1e-4)
