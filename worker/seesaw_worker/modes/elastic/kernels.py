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
        # A context that is not paged is read slot by slot.
        self._places = [c.blocks if c.is_paged else c.tensor().to(device) for c in contexts]
        self._are_paged = [context.is_paged for context in contexts]
        slots = [context.tensor() for context in contexts]
        self._all = torch.cat(slots).to(device) if slots and device.type != "cpu" else None

    def attend(self, query: torch.Tensor, memory: KvMemory, scale: float) -> Part:
        """Return the attention of each request's one query [requests, H, D] over its keys."""
        if self._all is not None:
            bounds = [0, *accumulate(self._lengths)]
            return _attend_ragged_on_gpu(query, memory.read(self._all), bounds, scale)
        output, lse = empty_part(query)
        for row, (num_keys, places) in enumerate(zip(self._lengths, self._places, strict=True)):
            if not num_keys:
                continue
            if self._are_paged[row]:
                key, value = memory.read_blocks(places)
            else:
                key, value = memory.read(places).permute(1, 2, 3, 0)
                value = value.transpose(1, 2)
            part = _attend_once(query[row], key[..., :num_keys], value[:, :num_keys], scale)
            output[row], lse[:, row] = part
        return output, lse


def _attend_once(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> Part:
    """Attention of one token, in fp32. Heads that share keys are a matrix.

    Shapes: query [H, D], key [K, D, S], value [K, S, D], output [H, D], LSE [H].
    """
    num_groups, size, _ = key.shape
    scores = (query.view(num_groups, -1, size).float() * scale) @ key.float()
    lse = scores.logsumexp(-1, keepdim=True)
    output = (scores - lse).exp_() @ value.float()
    return output.view(query.shape), lse.flatten()


def _attend_ragged_on_gpu(
    query: torch.Tensor, kv: torch.Tensor, bounds: Sequence[int], scale: float
) -> Part:
    """vLLM's flash attention over requests of any lengths. Not run yet."""
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
    """Torch's flash attention for the CPU. Key heads are its batch, so that none is copied."""
    num_queries, num_heads, size = q.shape
    num_keys, num_groups, _ = k.shape
    shared = num_heads // num_groups
    shape = (num_groups, shared, num_keys, size)
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # noqa: SLF001 - of aten
        q.view(num_queries, num_groups, shared, size).permute(1, 2, 0, 3),
        k.transpose(0, 1)[:, None].expand(shape),
        v.transpose(0, 1)[:, None].expand(shape),
        0.0,
        is_causal,
        scale=scale,
    )
    return output.permute(2, 0, 1, 3).reshape(q.shape), lse.reshape(num_heads, num_queries).float()


def _attend_on_gpu(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, *, is_causal: bool
) -> Part:
    """vLLM's flash attention. It aligns causal masks at the end, so keys beyond queries go first.

    Not run yet: this machine has no GPU.
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
