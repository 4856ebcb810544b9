"""The mean layer of a model on one tensor-parallel rank: what it reads and computes in a step.

Models mix layers of several kinds. A step's time is linear in what each layer reads and computes,
so a pipeline stage takes as long as that many mean layers, if the kinds alternate.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from seesaw_core.planner.layers import Cache, Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanLayer:
    """Figures of a mean layer on one rank. Units: bytes, floating-point operations.

    ``weights`` are bytes by the copies of a matrix and by how many of them each token uses.
    ``product_flops`` is the work of the matrix products for one token, ``state_flops`` that on
    recurrent states. ``state_bytes`` are of one request. ``caches`` come with how many of them the
    layer has, and with the bytes of their entries on the rank.
    """

    tensor: int
    weights: tuple[tuple[int, int, float], ...]
    product_flops: float
    state_flops: float
    state_bytes: float
    caches: tuple[tuple[Cache, float, float], ...]

    def read_bytes(self, num_tokens: float) -> float:
        """Bytes of weights that so many tokens read. Experts are taken as random."""
        total = 0.0
        for copies, per_token, held in self.weights:
            missed = (1 - per_token / copies) ** num_tokens if per_token < copies else 0.0
            total += held * (1 - missed)
        return total

    def prefill_flops(self, num_tokens: float, pairs: float) -> float:
        """Work of attention and states. ``pairs`` are of queries and the tokens before them."""
        work = num_tokens * self.state_flops
        for cache, number, _ in self.caches:
            work += number * cache.pair_flops * cache.read_of(num_tokens, pairs) / self.tensor
        return work

    def decode_flops(self, num_requests: float, context: float) -> float:
        """Work of attention and states for a token of each request, of ``context`` in sum."""
        work = num_requests * self.state_flops
        for cache, number, _ in self.caches:
            work += number * cache.decode_flops * cache.read_of(num_requests, context) / self.tensor
        return work

    def decode_read_bytes(self, num_requests: float, context: float) -> float:
        """Bytes of KV and states for the same. A state is read and written."""
        read = 2 * num_requests * self.state_bytes
        for cache, number, entry_bytes in self.caches:
            read += number * entry_bytes * cache.read_of(num_requests, context)
        return read

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes kept of one token, windows left out."""
        return sum(number * each / cache.ratio for cache, number, each in self.caches)


def mean_of(counts: Sequence[tuple[Layer, int]], figure: Callable[[Layer], float]) -> float:
    """Average a figure of kinds of layers, of which there are so many each."""
    if len(counts) == 1:
        return figure(counts[0][0])
    total = sum(number * figure(kind) for kind, number in counts)
    return total / sum(number for _, number in counts)


def mean_layer(counts: Sequence[tuple[Layer, int]], kv_bytes: int, tensor: int) -> MeanLayer:
    """Average kinds of layers, of which there are so many each, on one of ``tensor`` ranks."""
    num_layers = sum(number for _, number in counts)
    weights: dict[tuple[int, int], float] = {}
    caches: Counter[Cache] = Counter()
    for kind, number in counts:
        for p in kind.products:
            held = p.params * p.bytes_each * p.on_rank(tensor) * number / num_layers
            weights[p.copies, p.per_token] = weights.get((p.copies, p.per_token), 0.0) + held
        for cache in kind.caches:
            caches[cache] += number
    return MeanLayer(
        tensor=tensor,
        weights=tuple((*alike, held) for alike, held in weights.items()),
        product_flops=mean_of(counts, lambda kind: kind.product_flops(tensor)),
        state_flops=mean_of(counts, lambda kind: kind.state_flops / tensor),
        state_bytes=mean_of(counts, lambda kind: kind.state_bytes(tensor)),
        caches=tuple(
            (cache, number / num_layers, cache.entry_bytes(kv_bytes, tensor))
            for cache, number in caches.items()
        ),
    )
