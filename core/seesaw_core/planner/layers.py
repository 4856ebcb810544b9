"""Kinds of layers: their matrix products, what they keep of each token, and their state.

A layer mixes tokens (with attention or a recurrent state), applies an MLP, or both. It knows
nothing of devices; it says only how tensor-parallel ranks divide what it has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Split(StrEnum):
    """How tensor-parallel ranks divide a matrix."""

    COLUMNS = "columns"  # each rank has some of the outputs
    ROWS = "rows"  # each rank has some of the inputs, and an all-reduce adds up the outputs
    NONE = "none"  # each rank has the whole matrix


class Mixing(StrEnum):
    """How a layer mixes tokens."""

    FULL = "full attention"
    WINDOW = "windowed attention"
    SPARSE = "sparse attention"
    LATENT = "latent attention"
    STATE = "recurrent state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """Equal matrix products of a layer, from ``inputs`` to ``outputs`` elements.

    There are ``copies`` matrices, and each token is multiplied with ``per_token`` of them: more
    than one for experts. ``fused`` names the matrix that vLLM merges this one into, if any.
    ``names`` are those of the module below its layer, as checkpoints write them. ``bytes_each`` are
    the bytes of one weight, scales included.
    """

    names: tuple[str, ...]
    inputs: int
    outputs: int
    copies: int = 1
    per_token: int = 1
    split: Split = Split.COLUMNS
    fused: str = ""
    bytes_each: float = 2.0

    @property
    def params(self) -> int:
        return self.copies * self.inputs * self.outputs

    @property
    def used_params(self) -> int:
        """Parameters that one token is multiplied with."""
        return self.per_token * self.inputs * self.outputs

    def on_rank(self, tensor: int) -> float:
        """Return the share of the matrix that each of ``tensor`` ranks has."""
        return 1.0 if self.split is Split.NONE else 1 / tensor

    def touched(self, num_tokens: float) -> float:
        """Return how many of the copies so many tokens use. Experts are taken as random."""
        if self.per_token >= self.copies:
            return self.copies
        missed: float = (1 - self.per_token / self.copies) ** num_tokens
        return self.copies * (1 - missed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What a layer keeps of its past tokens, and what a new token reads of it.

    There is one entry of ``elements`` for each ``ratio`` tokens. Ranks divide an entry into at most
    ``heads`` parts; with more ranks, parts are kept several times. Entries of all but the last
    ``window`` tokens are dropped, and a new token reads at most ``most_read`` entries.
    ``pair_flops`` is the work of a prefill token with one entry, ``decode_flops`` that of a
    decoding token. An element takes ``element_bytes``, or those of the KV dtype if None.
    """

    elements: int
    heads: int
    pair_flops: float
    decode_flops: float
    ratio: int = 1
    window: int | None = None
    most_read: int | None = None
    element_bytes: float | None = None

    def kept(self, context: float) -> float:
        """Return the entries kept of ``context`` tokens."""
        return (context if self.window is None else min(context, self.window)) / self.ratio

    def read(self, context: float) -> float:
        """Return the entries that a token after ``context`` others reads."""
        kept = self.kept(context)
        return kept if self.most_read is None else min(kept, self.most_read)

    def read_of(self, num_queries: float, pairs: float) -> float:
        """Return the entries that queries read which have so many tokens before them in sum."""
        if self.window is None and self.most_read is None:
            return pairs / self.ratio
        return num_queries * self.read(pairs / num_queries) if num_queries else 0.0

    def entry_bytes(self, kv_bytes: int, tensor: int = 1) -> float:
        """Return the bytes of an entry on each of ``tensor`` ranks."""
        width = self.elements / self.heads * max(1.0, self.heads / tensor)
        return width * (kv_bytes if self.element_bytes is None else self.element_bytes)

    @property
    def form(self) -> tuple[int, int, int, float | None]:
        """What must be equal for caches to lie in one pool of pages."""
        return self.elements, self.heads, self.ratio, self.element_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixer:
    """The part of a layer that mixes tokens.

    ``state_bytes`` are those of one request, which ranks divide into ``heads`` parts at most.
    ``state_flops`` is the work on the state for each token.
    """

    mixing: Mixing
    products: tuple[Product, ...]
    heads: int
    caches: tuple[Cache, ...] = ()
    state_bytes: int = 0
    state_flops: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer. Some models have layers without a mixer, and others without an MLP."""

    mixer: Mixer | None = None
    mlp: tuple[Product, ...] = ()

    @property
    def products(self) -> Iterator[Product]:
        if self.mixer is not None:
            yield from self.mixer.products
        yield from self.mlp

    @property
    def caches(self) -> tuple[Cache, ...]:
        return () if self.mixer is None else self.mixer.caches

    @property
    def params(self) -> int:
        return sum(p.params for p in self.products)

    @property
    def num_all_reduces(self) -> int:
        """Results that tensor-parallel ranks add up: one of the mixer, one of the MLP."""
        return (self.mixer is not None) + bool(self.mlp)

    @property
    def mlp_width(self) -> int:
        """Elements between the MLP's matrices that one token has, its experts' together."""
        return sum(p.per_token * p.inputs for p in self.mlp if p.split is Split.ROWS)

    def weight_bytes(self, tensor: int = 1) -> float:
        """Return the bytes of weights on each of ``tensor`` ranks."""
        return sum(p.params * p.bytes_each * p.on_rank(tensor) for p in self.products)

    def product_flops(self, tensor: int = 1) -> float:
        """Return the work of the products for one token on each of ``tensor`` ranks."""
        return 2 * sum(p.used_params * p.on_rank(tensor) for p in self.products)

    @property
    def state_flops(self) -> float:
        """The work on the state for one token, all ranks together."""
        return 0.0 if self.mixer is None else self.mixer.state_flops

    def state_bytes(self, tensor: int = 1) -> float:
        """Return the bytes of one request's state on each of ``tensor`` ranks."""
        mixer = self.mixer
        return 0.0 if mixer is None else mixer.state_bytes / min(tensor, mixer.heads)
