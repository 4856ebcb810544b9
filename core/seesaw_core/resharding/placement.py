"""KV placement: which (layer, KV head) each rank holds, writes and reads.

A placement is about *KV* alone. Weight sharding is in :mod:`seesaw_core.resharding.weights`;
another serving mode may place one request's KV on several instances that each hold all weights
(LoongServe).
"""

from dataclasses import dataclass
from functools import lru_cache

from seesaw_core.layouts import Layout, ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The half-open range ``[start, stop)`` of layers, heads or tokens."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __contains__(self, index: int) -> bool:
        return self.start <= index < self.stop


@dataclass(frozen=True, slots=True, kw_only=True)
class KvShard:
    """The part of a token's KV that one rank holds.

    ``layers`` and ``heads`` are global indices. With ``writes`` this rank writes the shard to the
    KV buffer. Of ranks with replicas of a head only the first one does, so that each byte of the
    buffer has exactly one writer.
    """

    layers: Span
    heads: Span
    writes: bool


def split_layers(num_layers: int, pipeline: int) -> tuple[Span, ...]:
    """Return the layers of each pipeline stage, as vLLM splits them.

    Stages differ by at most one layer. The later stages get the extra layers, except for the last
    one, which also holds the output head.
    """
    base, extra = divmod(num_layers, pipeline)
    sizes = [base] * pipeline
    for index in range(2, extra + 2):
        sizes[-index] += 1
    spans, start = [], 0
    for size in sizes:
        spans.append(Span(start=start, stop=start + size))
        start += size
    return tuple(spans)


def split_heads(num_kv_heads: int, tensor: int) -> tuple[tuple[Span, bool], ...]:
    """Return the KV heads of each tensor rank, and whether it is the first to hold them.

    With fewer heads than ranks each head is replicated over ``tensor / num_kv_heads``
    neighbouring ranks.
    """
    if num_kv_heads >= tensor:
        per_rank = num_kv_heads // tensor
        return tuple(
            (Span(start=r * per_rank, stop=(r + 1) * per_rank), True) for r in range(tensor)
        )
    copies = tensor // num_kv_heads
    return tuple(
        (Span(start=r // copies, stop=r // copies + 1), r % copies == 0) for r in range(tensor)
    )


@lru_cache(maxsize=64)
def place_kv(layout: Layout, shape: ModelShape) -> tuple[KvShard, ...]:
    """Return the KV shard of every rank of ``layout``, in rank order.

    Requires: the layout has passed :func:`seesaw_core.layouts.check_layout`.
    """
    layers = split_layers(shape.num_layers, layout.pipeline)
    heads = split_heads(shape.num_kv_heads, layout.tensor)
    return tuple(
        KvShard(
            layers=layers[at.pipeline],
            heads=heads[at.tensor][0],
            writes=heads[at.tensor][1],
        )
        for _, at in layout.ranks()
    )
