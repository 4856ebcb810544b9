"""Attention over a part of a context, and the merge of two parts.

A part returns its output and the logarithm of the sum of its exponentials (LSE), from which the
attention over the whole context follows without its keys.

Shapes: T queries, S keys, H query heads, K key heads, D the head's size. ``q`` [T, H, D], ``k``
and ``v`` [S, K, D], outputs [T, H, D], LSE [H, T] in fp32.
Source: Wu et al., LoongServe (arXiv 2404.09526), section 4.2; the merge is that of ring attention
(Liu et al., arXiv 2310.01889).
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch.nn.utils.rnn import pad_sequence
from vllm.v1.attention.ops.merge_attn_states import merge_attn_states

from seesaw_worker.modes.elastic.memory import KvMemory
from seesaw_worker.modes.elastic.slots import Context

Part = tuple[torch.Tensor, torch.Tensor]


def empty_part(q: torch.Tensor) -> Part:
    """Return the attention over no keys."""
    num_queries, num_heads, _ = q.shape
    lse = q.new_full((num_heads, num_queries), float("-inf"), dtype=torch.float32)
    return torch.zeros_like(q), lse


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, *, is_causal: bool = False
) -> Part:
    """Return the attention of all queries over all keys; if causal, query i sees keys 0 to i."""
    if not len(q) or not len(k):
        return empty_part(q)
    on_device = _attend_on_cpu if q.is_cpu else _attend_on_gpu
    return on_device(q, k, v, scale, is_causal=is_causal)


class Contexts:
    """Several requests' keys on one instance, laid out once for all layers of an iteration."""

    def __init__(self, contexts: Sequence[Context], device: torch.device) -> None:
        self._lengths = [len(context) for context in contexts]
        slots = [context.tensor().to(device) for context in contexts]
        self._all = torch.cat(slots) if slots and device.type != "cpu" else None
        held = [(row, context) for row, context in enumerate(contexts) if len(context)]
        paged = [(row, context) for row, context in held if context.is_paged]
        self._paged = _PagedContexts(*zip(*paged, strict=True)) if paged else None
        self._scattered = [(row, slots[row]) for row, context in held if not context.is_paged]

    def attend(self, query: torch.Tensor, memory: KvMemory, scale: float) -> Part:
        """Return the attention of each request's one query [requests, H, D] over its keys."""
        if self._all is not None:
            bounds = [0, *accumulate(self._lengths)]
            return _attend_ragged_on_gpu(query, memory.read(self._all), bounds, scale)
        output, lse = empty_part(query)
        if self._paged is not None:
            self._paged.attend(query, memory, scale, output, lse)
        for row, slots in self._scattered:
            key, value = memory.read(slots).unbind(1)
            part = attend(query[row : row + 1], key, value, scale)
            output[row], lse[:, row] = part[0][0], part[1][:, 0]
        return output, lse


class _PagedContexts:
    """The blocks of those requests whose contexts are paged, in ``rows`` of the queries.

    Each block is attended to by itself, in fp32, and a request's blocks are merged then.
    Shapes: N blocks of all requests, B slots in each, R requests, G query heads to a key head.
    """

    def __init__(self, rows: Sequence[int], contexts: Sequence[Context]) -> None:
        self._rows = torch.tensor(rows)
        self._blocks = torch.cat([context.blocks for context in contexts])
        counts = torch.tensor([-(-len(c) // c.block_size) for c in contexts])
        self._owner = torch.arange(len(contexts)).repeat_interleave(counts)  # [N], of R
        # [R, most blocks] of N; what is beyond a request's own is the number N.
        numbers = torch.arange(len(self._blocks)).split(counts.tolist())
        self._blocks_of = pad_sequence(list(numbers), True, len(self._blocks))
        block_size = contexts[0].block_size
        slots = [torch.arange(int(n) * block_size).view(-1, block_size) for n in counts]
        unused = [slot >= len(c) for slot, c in zip(slots, contexts, strict=True)]
        self._unused = torch.cat(unused)  # [N, B]

    def attend(
        self,
        query: torch.Tensor,
        memory: KvMemory,
        scale: float,
        output: torch.Tensor,
        lse: torch.Tensor,
    ) -> None:
        """Write the rows of ``output`` [requests, H, D] and the columns of ``lse``."""
        key, value = memory.read_blocks(self._blocks)
        num_blocks, num_groups, size, _ = key.shape
        own = query[self._rows]
        queries = (own.float() * scale)[self._owner].view(num_blocks, num_groups, -1, size)
        scores = queries @ key.float()  # [N, K, G, B]
        scores.masked_fill_(self._unused[:, None, None], float("-inf"))
        block_lse = scores.logsumexp(-1)
        parts = scores.sub_(block_lse[..., None]).exp_() @ value.float()  # [N, K, G, D]
        nothing = block_lse.new_full((1, *block_lse.shape[1:]), float("-inf"))
        whole_lse = torch.cat([block_lse, nothing])[self._blocks_of].logsumexp(1)  # [R, K, G]
        shares = block_lse.sub_(whole_lse[self._owner]).exp_()
        merged = parts.new_zeros(*whole_lse.shape, size)
        merged.index_add_(0, self._owner, parts.mul_(shares[..., None]))
        output[self._rows] = merged.view(own.shape).to(output.dtype)
        lse[:, self._rows] = whole_lse.view(len(own), -1).t()


def _attend_ragged_on_gpu(
    query: torch.Tensor, kv: torch.Tensor, bounds: Sequence[int], scale: float
) -> Part:
    """vLLM's flash attention over requests of any lengths. Not run on a GPU yet."""
    from vllm.v1.attention.backends.fa_utils import flash_attn_varlen_func

    key, value = kv.unbind(1)
    output, lse = flash_attn_varlen_func(
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        max_seqlen_q=1,
        cu_seqlens_q=torch.arange(len(bounds), dtype=torch.int32, device=query.device),
        max_seqlen_k=max(stop - start for start, stop in pairwise(bounds)),
        cu_seqlens_k=torch.tensor(bounds, dtype=torch.int32, device=query.device),
        softmax_scale=scale,
        causal=False,
        return_softmax_lse=True,
    )
    return output, lse


def merge(first: Part, second: Part) -> Part:
    """Return the attention over the keys of both parts."""
    if first[0].is_cpu:
        return _merge_on_cpu(first, second)
    parts = [tensor.contiguous() for tensor in (*first, *second)]
    output, lse = torch.empty_like(parts[0]), torch.empty_like(parts[1])
    merge_attn_states(output, *parts, lse)
    return output, lse


def _merge_on_cpu(first: Part, second: Part) -> Part:
    """Weigh both outputs in fp32, with fewer passes over them than vLLM's merge for the CPU."""
    (before, lse_before), (after, lse_after) = first, second
    share = torch.sigmoid(lse_after - lse_before)
    share.nan_to_num_(0.0)  # both are empty
    output = torch.lerp(before.float(), after.float(), share.t()[..., None])
    return output.to(before.dtype), torch.logaddexp(lse_before, lse_after)


def _attend_on_cpu(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, *, is_causal: bool
) -> Part:
    """Torch's flash attention for the CPU. Key heads are its batch, so each is copied once at most.

    It reads a head's keys again and again, so they are laid in a row.
    """
    num_queries, num_heads, size = q.shape
    num_keys, num_groups, _ = k.shape
    shared = num_heads // num_groups
    shape = (num_groups, shared, num_keys, size)
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # noqa: SLF001 - of aten
        q.view(num_queries, num_groups, shared, size).permute(1, 2, 0, 3),
        k.transpose(0, 1).contiguous()[:, None].expand(shape),
        v.transpose(0, 1).contiguous()[:, None].expand(shape),
        0.0,
        is_causal,
        scale=scale,
    )
    return output.permute(2, 0, 1, 3).reshape(q.shape), lse.reshape(num_heads, num_queries).float()


def _attend_on_gpu(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, *, is_causal: bool
) -> Part:
    """vLLM's flash attention. It aligns causal masks at the end, so keys beyond queries go first.

    Not run on a GPU yet.
    """
    from vllm.v1.attention.backends.fa_utils import flash_attn_varlen_func

    if is_causal and len(k) > len(q):
        k, v = k[: len(q)], v[: len(q)]
    surplus = len(q) - len(k) if is_causal else 0  # the last queries see all keys
    if surplus > 0:
        head = _attend_on_gpu(q[: len(k)], k, v, scale, is_causal=True)
        tail = _attend_on_gpu(q[len(k) :], k, v, scale, is_causal=False)
        return torch.cat([head[0], tail[0]]), torch.cat([head[1], tail[1]], dim=1)
    bounds_q = torch.tensor([0, len(q)], dtype=torch.int32, device=q.device)
    bounds_k = torch.tensor([0, len(k)], dtype=torch.int32, device=q.device)
    output, lse = flash_attn_varlen_func(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        max_seqlen_q=len(q),
        cu_seqlens_q=bounds_q,
        max_seqlen_k=len(k),
        cu_seqlens_k=bounds_k,
        softmax_scale=scale,
        causal=is_causal,
        return_softmax_lse=True,
    )
    return output, lse
