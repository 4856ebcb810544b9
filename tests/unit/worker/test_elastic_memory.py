"""What is stored in slots comes back from them, in the order of each of vLLM's kernels."""

import pytest
import torch

from seesaw_worker.modes.elastic.kernels import attend
from seesaw_worker.modes.elastic.memory import CpuMemory, PagedBatch, copy_tokens
from seesaw_worker.modes.elastic.slots import SlotTable

BLOCKS, KV_HEADS, BLOCK, SIZE = 6, 2, 64, 64


def filled(isa: str, dtype: torch.dtype) -> tuple[CpuMemory, torch.Tensor]:
    """Return a memory and [slots, 2, KV heads, size] what its slots hold."""
    memory = CpuMemory(torch.zeros(BLOCKS, KV_HEADS, BLOCK, 2 * SIZE, dtype=dtype), isa)
    generator = torch.Generator().manual_seed(1)
    kv = torch.randn(BLOCKS * BLOCK, 2, KV_HEADS, SIZE, generator=generator).to(dtype)
    slots = torch.randperm(len(kv), generator=generator)
    memory.write(slots, *kv[slots].unbind(1))
    return memory, kv


@pytest.mark.parametrize(
    ("isa", "dtype"),
    [
        ("vec", torch.float32),
        ("vec", torch.bfloat16),
        ("vec16", torch.float32),
        ("amx", torch.bfloat16),
    ],
)
def test_slots_and_whole_blocks_come_back_as_they_were_stored(isa: str, dtype: torch.dtype) -> None:
    memory, kv = filled(isa, dtype)
    some = torch.tensor([7, 300, 64, 63])
    assert torch.equal(memory.read(some), kv[some])
    key, value = memory.read_blocks(torch.tensor([3, 1], dtype=torch.int32))
    for row, block in enumerate((3, 1)):
        wanted = kv[block * BLOCK : (block + 1) * BLOCK]
        assert torch.equal(key[row].permute(2, 0, 1), wanted[:, 0])
        assert torch.equal(value[row].transpose(0, 1), wanted[:, 1])


@pytest.mark.parametrize("isa", ["vec", "amx"])
@pytest.mark.parametrize("taken", [BLOCKS * BLOCK - 200, 0])
def test_the_first_tokens_of_a_context_are_copied(isa: str, taken: int) -> None:
    """Block by block, or slot by slot if the copy lies in the ends of others' blocks."""
    memory, kv = filled(isa, torch.bfloat16)
    table = SlotTable(BLOCKS * BLOCK, BLOCK)
    table.take("source", 90)
    table.take("other", max(taken - 90, 1))
    table.take("another", 33)
    table.take("target", 70)
    source, target = table.of("source"), table.of("target")
    others = {key: table.of(key).tensor() for key in ("source", "other", "another")}
    copy_tokens([memory], source, target, 70)
    assert target.is_paged == (not taken)
    assert torch.equal(memory.read(target.tensor()), kv[source.tensor()[:70]])
    assert all(torch.equal(memory.read(slots), kv[slots]) for slots in others.values())


def test_a_copy_into_a_block_with_somebody_elses_slot_leaves_that_alone() -> None:
    memory, kv = filled("vec", torch.float32)
    table = SlotTable(2 * BLOCK, BLOCK)
    for key, num_tokens in (("gone", BLOCK - 1), ("source", BLOCK), ("other", 1)):
        table.take(key, num_tokens)
    table.release("gone")
    table.take("target", 33)
    (other,) = table.of("other").slots
    assert table.of("target").is_paged
    assert other // BLOCK == table.of("target").slots[0] // BLOCK
    copy_tokens([memory], table.of("source"), table.of("target"), 33)
    assert torch.equal(memory.read(table.of("other").tensor()), kv[[other]])
    assert torch.equal(
        memory.read(table.of("target").tensor()), kv[table.of("source").tensor()[:33]]
    )


def test_paged_contexts_are_attended_in_place() -> None:
    memory, kv = filled("vec", torch.float32)
    table = SlotTable(BLOCKS * BLOCK, BLOCK)
    table.take("other", 5)
    queries = {"whole": (70, 70), "last": (1, 64), "end": (9, 33)}
    for key, (_, length) in queries.items():
        table.take(key, length)
    contexts = [table.of(key) for key in queries]
    computed = [(length - number, length) for number, length in queries.values()]
    batch = PagedBatch(computed, contexts, torch.device("cpu"))
    query = torch.randn(80, 4, SIZE)
    output = torch.empty_like(query)
    memory.attend(query, batch, 0.125, output)
    start = 0
    for context, (number, length) in zip(contexts, queries.values(), strict=True):
        key, value = kv[context.tensor()].unbind(1)
        whole = torch.zeros(length, 4, SIZE)
        whole[length - number :] = query[start : start + number]
        wanted = attend(whole, key, value, 0.125, is_causal=True)[0][length - number :]
        torch.testing.assert_close(output[start : start + number], wanted)
        start += number
