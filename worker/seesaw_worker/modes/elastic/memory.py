"""The KV memory of one layer as slots of one token each, in the blocks of vLLM's kernels.

Shapes: T tokens, K key heads, H query heads, D the head's size, B slots in a block. Slots [T] are
int64, blocks [N] int32; slot ``b * B + i`` is the i-th of block b.
"""

from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Protocol

import torch
from vllm import _custom_ops as ops
from vllm import envs

from seesaw_worker.modes.elastic.slots import Context


class PagedBatch:
    """Paged contexts of which some tokens are queries; laid out once for all layers.

    queries: of each context, the first query and the stop. A query sees the tokens up to its own.
    """

    def __init__(
        self, queries: Sequence[tuple[int, int]], contexts: Sequence[Context], device: torch.device
    ) -> None:
        blocks = [context.blocks for context in contexts]
        table = torch.zeros(len(blocks), max(map(len, blocks)), dtype=torch.int32)
        for row, each in enumerate(blocks):
            table[row, : len(each)] = each
        self.block_table = table.to(device)
        num_queries, lengths = [stop - start for start, stop in queries], [s for _, s in queries]
        starts = [0, *accumulate(num_queries)]
        self.query_start_loc = torch.tensor(starts, dtype=torch.int32, device=device)
        self.seq_lens = torch.tensor(lengths, dtype=torch.int32, device=device)
        self.max_query_len, self.max_seq_len = max(num_queries), max(lengths)
        self._plans: dict[tuple[int, int, int, torch.dtype, str], torch.Tensor] = {}

    def plan(self, shape: tuple[int, int, int, torch.dtype, str]) -> torch.Tensor:
        """Return how vLLM's kernel for the CPU divides the work over threads.

        shape: query heads, key heads, head size, type of the elements, name of the kernel.
        """
        if shape not in self._plans:
            num_heads, num_kv_heads, size, dtype, isa = shape
            self._plans[shape] = ops.cpu_attn_get_scheduler_metadata(
                num_reqs=len(self.seq_lens),
                num_heads=num_heads,
                num_kv_heads=num_kv_heads,
                head_dim=size,
                seq_lens=self.seq_lens,
                dtype=dtype,
                query_start_loc=self.query_start_loc,
                causal=True,
                sliding_window_size=-1,
                isa=isa,
                enable_kv_split=envs.VLLM_CPU_ATTN_SPLIT_KV,
            )
        return self._plans[shape]


class KvMemory(Protocol):
    """One layer's."""

    num_slots: int
    block_size: int

    def write(self, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store ``key`` and ``value`` [T, K, D] in slots."""
        ...

    def read(self, slots: torch.Tensor) -> torch.Tensor:
        """Return [T, 2, K, D], a copy, where 0 is K and 1 is V."""
        ...

    def read_blocks(self, blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return K [N, K, D, B] and V [N, K, B, D] of whole blocks, copies."""
        ...

    def copy_blocks(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Copy whole blocks."""
        ...

    def attend(
        self, query: torch.Tensor, batch: PagedBatch, scale: float, output: torch.Tensor
    ) -> None:
        """Write the causal attention of ``query`` [T, H, D] to ``output`` [T, H, D]."""
        ...


def copy_tokens(
    memories: Sequence[KvMemory], source: Context, target: Context, num_tokens: int
) -> None:
    """Copy the first tokens of a context to those of another, in each layer.

    Whole blocks are copied as they are. The others' slots may lie in blocks with those of others.
    """
    num_blocks = min(source.num_paged, target.num_paged, num_tokens) // target.block_size
    rest = slice(num_blocks * target.block_size, num_tokens)
    old, new = source.tensor()[rest], target.tensor()[rest]
    for memory in memories:
        if num_blocks:
            memory.copy_blocks(source.blocks[:num_blocks], target.blocks[:num_blocks])
        if len(old):
            memory.write(new, *memory.read(old).unbind(1))


def memory_of(kv_cache: torch.Tensor, isa: str) -> KvMemory:
    """Return a layer's memory, which is ``kv_cache`` [blocks, K, B, 2 * D], as vLLM allocates it.

    isa: name of vLLM's kernel for this CPU.
    """
    return CpuMemory(kv_cache, isa) if kv_cache.is_cpu else GpuMemory(kv_cache)


class CpuMemory:
    """Each kernel for the CPU has an order of its own of the elements in a block of one head.

    kv_cache: [blocks, K, B, 2 * D].
    """

    def __init__(self, kv_cache: torch.Tensor, isa: str) -> None:
        num_blocks, num_heads, self.block_size, twice = kv_cache.shape
        self.num_slots, self._size = num_blocks * self.block_size, twice // 2
        shape = (num_blocks, num_heads, 2 * self.block_size, self._size)
        self._key, self._value = kv_cache.view(shape).chunk(2, dim=2)
        self._flat = kv_cache.view(num_blocks, num_heads, 2, -1)
        self._isa = isa
        self._key_order, self._value_order = _orders(
            isa, self.block_size, self._size, kv_cache.dtype
        )
        in_order = torch.arange(self.block_size * self._size).view(self._size, self.block_size)
        self._is_plain = torch.equal(self._key_order, in_order.t()) and torch.equal(
            self._value_order.flatten(), in_order.flatten()
        )

    def write(self, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        slots = slots.contiguous()
        ops.cpu_attn_reshape_and_cache(key, value, self._key, self._value, slots, self._isa)

    def read(self, slots: torch.Tensor) -> torch.Tensor:
        blocks, places = torch.unique_consecutive(slots // self.block_size, return_inverse=True)
        key, value = self.read_blocks(blocks)
        offsets = slots % self.block_size
        return torch.stack([key[places, :, :, offsets], value[places, :, offsets]], 1)

    def read_blocks(self, blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = (len(blocks), self._flat.shape[1], self.block_size, self._size)
        key, value = self._flat.index_select(0, blocks).unbind(2)  # each [N, K, B * D]
        if self._is_plain:  # K by columns, V by rows
            return key.view(*rows[:2], self._size, self.block_size), value.view(rows)
        key = key.index_select(2, self._key_order.flatten()).view(rows)
        return key.transpose(2, 3), value.index_select(2, self._value_order.flatten()).view(rows)

    def copy_blocks(self, source: torch.Tensor, target: torch.Tensor) -> None:
        self._flat[target] = self._flat[source]

    def attend(
        self, query: torch.Tensor, batch: PagedBatch, scale: float, output: torch.Tensor
    ) -> None:
        shape = (query.shape[1], self._flat.shape[1], self._size, query.dtype, self._isa)
        ops.cpu_attention_with_kv_cache(
            query=query,
            key_cache=self._key,
            value_cache=self._value,
            output=output,
            query_start_loc=batch.query_start_loc,
            seq_lens=batch.seq_lens,
            scale=scale,
            causal=True,
            alibi_slopes=None,
            sliding_window=-1,
            block_table=batch.block_table,
            softcap=0.0,
            scheduler_metadata=batch.plan(shape),
            s_aux=None,
        )


_DIGITS, _BASE = 3, 128  # of a place in a block; numbers below the base are exact in every type


@cache
def _orders(
    isa: str, block_size: int, size: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return [B, D] for K and for V: where in a block of one head the kernel stores each element.

    The kernel is asked, by storing the number of each element.
    """
    count = block_size * size
    numbers = torch.arange(count).view(block_size, 1, size)
    slots = torch.arange(block_size)
    places = torch.zeros(2, count, dtype=torch.int64)
    for digit in range(_DIGITS):
        stored = torch.zeros(1, 1, 2 * block_size, size, dtype=dtype)
        key, value = stored.chunk(2, dim=2)
        digits = (numbers // _BASE**digit % _BASE).to(dtype)
        ops.cpu_attn_reshape_and_cache(digits, digits, key, value, slots, isa)
        places += stored.view(2, count).long() * _BASE**digit
    key_order, value_order = places.argsort(1).view(2, block_size, size).unbind(0)
    return key_order, value_order


class GpuMemory:
    """Plain rows of a token's K and V. Not run on a GPU yet."""

    def __init__(self, kv_cache: torch.Tensor) -> None:
        num_blocks, _, self.block_size, twice = kv_cache.shape
        self.num_slots = num_blocks * self.block_size
        self._rows = kv_cache.transpose(1, 2)  # [blocks, B, K, 2 * D]
        self._key, self._value = self._rows.split(twice // 2, dim=-1)

    def write(self, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        at = slots // self.block_size, slots % self.block_size
        self._rows[at] = torch.cat([key, value], -1)

    def read(self, slots: torch.Tensor) -> torch.Tensor:
        rows = self._rows[slots // self.block_size, slots % self.block_size]
        return torch.stack(rows.chunk(2, dim=-1), 1)

    def read_blocks(self, blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        key, value = self._key[blocks], self._value[blocks]  # each [N, B, K, D]
        return key.permute(0, 2, 3, 1), value.transpose(1, 2)

    def copy_blocks(self, source: torch.Tensor, target: torch.Tensor) -> None:
        self._rows[target] = self._rows[source]

    def attend(
        self, query: torch.Tensor, batch: PagedBatch, scale: float, output: torch.Tensor
    ) -> None:
        from vllm.v1.attention.backends.fa_utils import flash_attn_varlen_func

        flash_attn_varlen_func(
            query.contiguous(),
            self._key,
            self._value,
            out=output,
            max_seqlen_q=batch.max_query_len,
            cu_seqlens_q=batch.query_start_loc,
            max_seqlen_k=batch.max_seq_len,
            seqused_k=batch.seq_lens,
            block_table=batch.block_table,
            softmax_scale=scale,
            causal=True,
        )
