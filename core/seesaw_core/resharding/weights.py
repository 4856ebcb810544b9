"""Weight sharding: how many bytes of a model each rank of a layout holds.

The estimate uses tensor names and shapes. It is good enough to size the arenas and to refuse a
model that cannot fit before anything is loaded. Where a name is not conclusive it errs upwards: an
arena is trimmed once the engines have loaded, but an arena that is too small stops them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.resharding.placement import Span, split_layers

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.([0-9]{1,9})\.")
_HEAD = re.compile(r"lm_head|embed_out|(?:^|\.)output\.")
_EMBEDDING = re.compile(r"embed_tokens|embed_in\.|word_embeddings\.|tok_embeddings|wte\.")
_KEY_OR_VALUE = re.compile(r"\.[kv]_proj\.")
_FUSED_QKV = re.compile(r"qkv|query_key_value|\.c_attn\.")
_ROUTER = re.compile(r"\.(?:gate|router)\.weight$")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor of a checkpoint. Units: ``num_bytes`` in the dtype that is served."""

    name: str
    num_dims: int
    num_bytes: int


def shard_weights(
    tensors: Iterable[TensorInfo], layout: Layout, shape: ModelShape
) -> tuple[int, ...]:
    """Estimate the weight bytes on every rank of ``layout``.

    Matrices are divided among the tensor ranks; vectors and the routers of experts are replicated;
    keys and values are divided as far as there are KV heads. A layer's tensors go to the layer's
    stage, the output head and the final norm to the last stage, all others to the first. If the
    output head is tied to the embedding, vLLM creates both on the last stage before it ties them,
    so that stage counts both.
    """
    known = tuple(tensors)
    stages = split_layers(shape.num_layers, layout.pipeline)
    is_tied = not any(_HEAD.search(t.name) for t in known if not _LAYER.search(t.name))
    per_stage = [0.0] * layout.pipeline
    for tensor in known:
        held_bytes = tensor.num_bytes * _share(tensor, layout.tensor, shape)
        per_stage[_stage_of(tensor.name, stages)] += held_bytes
        if is_tied and _EMBEDDING.search(tensor.name):
            per_stage[-1] += held_bytes * (1 if len(stages) == 1 else 2)
    return tuple(ceil(per_stage[at.pipeline]) for _, at in layout.ranks())


def arena_bytes(
    tensors: Iterable[TensorInfo], prefill: Layout, decode: Layout, shape: ModelShape
) -> tuple[int, ...]:
    """Return the bytes of each device's weights arena: the larger of its two shards."""
    known = tuple(tensors)
    prefill_shards = shard_weights(known, prefill, shape)
    decode_shards = shard_weights(known, decode, shape)
    return tuple(map(max, zip(prefill_shards, decode_shards, strict=True)))


def _share(tensor: TensorInfo, ranks: int, shape: ModelShape) -> float:
    """Return the share of one tensor that each of ``ranks`` tensor ranks holds."""
    if tensor.num_dims < 2 or _ROUTER.search(tensor.name):
        return 1.0
    kv_share = 1 / min(ranks, shape.num_kv_heads)
    if _KEY_OR_VALUE.search(tensor.name):
        return kv_share
    if _FUSED_QKV.search(tensor.name):
        num_kv = 2 * shape.num_kv_heads
        return (shape.num_heads / ranks + num_kv * kv_share) / (shape.num_heads + num_kv)
    return 1 / ranks


def _stage_of(name: str, stages: tuple[Span, ...]) -> int:
    match = _LAYER.search(name)
    if match:
        layer = int(match.group(1))
        for index, span in enumerate(stages):
            if layer in span:
                return index
    is_last = _HEAD.search(name) or name.endswith("norm.weight")
    return len(stages) - 1 if is_last else 0
