"""Weight sharding: how many bytes of a model each rank of a layout holds.

An estimate from tensor names and shapes, good enough to refuse a model that cannot fit before
anything is loaded. The exact figure comes from the engines once they have loaded.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.placement import Span, split_layers

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_LAST_STAGE = ("lm_head", "output")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor of a checkpoint. Units: ``num_bytes`` in the dtype that is served."""

    name: str
    num_dims: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightShard:
    """Weight bytes that one rank holds."""

    rank: int
    num_bytes: int


def shard_weights(
    tensors: Iterable[TensorInfo], layout: Layout, shape: ModelShape
) -> tuple[WeightShard, ...]:
    """Estimate the weight bytes on every rank of ``layout``.

    Matrices are divided among the tensor ranks, vectors are replicated; a layer's tensors go
    to the layer's stage, the output head and the final norm to the last stage, all else to the
    first.
    """
    stages = split_layers(shape.num_layers, layout.pipeline)
    per_stage = [0.0] * layout.pipeline
    for tensor in tensors:
        stage = _stage_of(tensor.name, stages)
        per_stage[stage] += tensor.num_bytes / (layout.tensor if tensor.num_dims > 1 else 1)
    return tuple(
        WeightShard(rank=rank, num_bytes=round(per_stage[at.pipeline]))
        for rank, at in layout.ranks()
    )


def arena_bytes(
    tensors: Iterable[TensorInfo], prefill: Layout, decode: Layout, shape: ModelShape
) -> tuple[int, ...]:
    """Bytes of each device's weights arena: the larger of its two shards."""
    known = tuple(tensors)
    return tuple(
        max(p.num_bytes, d.num_bytes)
        for p, d in zip(
            shard_weights(known, prefill, shape), shard_weights(known, decode, shape), strict=True
        )
    )


def _stage_of(name: str, stages: tuple[Span, ...]) -> int:
    match = _LAYER.search(name)
    if match:
        layer = int(match.group(1))
        for index, span in enumerate(stages):
            if layer in span:
                return index
    last = any(part in name for part in _LAST_STAGE) or name.endswith("norm.weight")
    return len(stages) - 1 if last else 0
