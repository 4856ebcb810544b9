"""Models as the cost model sees them.

A description counts parameters, bytes and floating-point operations. It knows nothing of devices;
of layouts it knows how tensor-parallel ranks divide a layer. Norms, biases and learned positions
are left out; in a model of a billion parameters they are less than a thousandth.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from seesaw_core.layouts import ModelShape
from seesaw_core.planner.layers import Layer, Mixing, Product
from seesaw_core.planner.mean_layers import MeanLayer, mean_layer, mean_of
from seesaw_core.planner.mixers import Heads, attention
from seesaw_core.planner.mlps import dense_mlp


class Arithmetic(StrEnum):
    """The number format of the layers' matrix products."""

    WIDE = "16 bits"
    INT8 = "int8"
    FP8 = "fp8"
    FP4 = "fp4"


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model. Units: counts; ``kv_bytes`` per element.

    ``kinds`` are the different layers, and ``pattern`` says for each layer of the model which of
    them it is. Quantisation shrinks the layers' matrices; embedding and head keep ``dtype_bytes``
    unless ``head_bytes`` says otherwise for the head. ``arithmetic`` is narrow if activations are
    quantised as well. ``cannot_reshard`` says why a worker cannot re-shard the weights, if so.
    ``assumptions`` are sentences about fields that the config left open.

    Figures "of a mean layer" are those of all layers by their number.
    """

    name: str
    shape: ModelShape
    hidden: int
    vocab: int
    kinds: tuple[Layer, ...]
    pattern: tuple[int, ...]
    tied: bool = False
    dtype_bytes: int = 2
    head_bytes: float | None = None
    kv_bytes: int = 2
    arithmetic: Arithmetic = Arithmetic.WIDE
    max_tokens: int = 4096
    cannot_reshard: str | None = None
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.pattern) == self.shape.num_layers, "each layer is of some kind"

    @cached_property
    def counts(self) -> tuple[tuple[Layer, int], ...]:
        """The kinds of layers, each with how many layers of the model are of it."""
        counted = Counter(self.pattern)
        return tuple((kind, counted[index]) for index, kind in enumerate(self.kinds))

    @cached_property
    def has_experts(self) -> bool:
        """Whether any layer is a mixture of experts."""
        return any(product.copies > 1 for kind in self.kinds for product in kind.products)

    def layers(self, span: range) -> Iterator[tuple[Layer, int]]:
        """Yield the kinds of layers in a span of the model, and how many of each there are."""
        for index, number in Counter(self.pattern[span.start : span.stop]).items():
            yield self.kinds[index], number

    # ---- parameters ----

    @cached_property
    def attention_params(self) -> float:
        """Parameters of a mean layer that mix tokens."""
        return mean_of(self.counts, lambda k: _sum(k.mixer.products) if k.mixer else 0)

    def mlp_params(self, num_tokens: float | None = None) -> float:
        """Parameters of a mean layer's MLP that ``num_tokens`` tokens use; None for all."""
        if num_tokens is None:
            return mean_of(self.counts, lambda kind: _sum(kind.mlp))
        return mean_of(
            self.counts,
            lambda kind: sum(p.inputs * p.outputs * p.touched(num_tokens) for p in kind.mlp),
        )

    @cached_property
    def params_per_token(self) -> float:
        """Parameters of a mean layer that each token is multiplied with."""
        return mean_of(self.counts, lambda kind: sum(p.used_params for p in kind.products))

    @cached_property
    def layer_params(self) -> float:
        """Parameters of a mean layer."""
        return mean_of(self.counts, lambda kind: kind.params)

    @property
    def head_params(self) -> int:
        """Parameters of the embedding, and of the output head: as many."""
        return self.vocab * self.hidden

    @property
    def num_params(self) -> float:
        matrices = 1 if self.tied else 2
        return self.shape.num_layers * self.layer_params + matrices * self.head_params

    # ---- bytes of weights ----

    @cached_property
    def weight_bytes(self) -> float:
        """Bytes of each parameter of the layers, on average."""
        layer_bytes = mean_of(self.counts, lambda kind: kind.weight_bytes())
        return layer_bytes / self.layer_params if self.layer_params else float(self.dtype_bytes)

    @property
    def head_weight_bytes(self) -> float:
        """Bytes of the output head."""
        each = self.dtype_bytes if self.head_bytes is None else self.head_bytes
        return self.head_params * each

    @property
    def total_bytes(self) -> float:
        layers = self.shape.num_layers * self.layer_params * self.weight_bytes
        embedding = 0 if self.tied else self.head_params * self.dtype_bytes
        return layers + embedding + self.head_weight_bytes

    # ---- what layers keep of past tokens, and what a step reads and computes ----

    def mean_layer(self, tensor: int = 1) -> MeanLayer:
        """Return the figures of a mean layer on each of ``tensor`` ranks."""
        known = self._mean_layers.get(tensor)
        if known is None:
            known = self._mean_layers[tensor] = mean_layer(self.counts, self.kv_bytes, tensor)
        return known

    @cached_property
    def _mean_layers(self) -> dict[int, MeanLayer]:
        return {}

    @property
    def kv_bytes_per_token(self) -> float:
        """Bytes that all layers keep of one token, all ranks together, windows left out."""
        return self.shape.num_layers * self.mean_layer().kv_bytes_per_token

    @property
    def state_bytes(self) -> float:
        """Bytes of recurrent state of one request, in all layers, all ranks together."""
        return self.shape.num_layers * self.mean_layer().state_bytes

    # ---- sums over layers ----

    @cached_property
    def mlp_width(self) -> int:
        """Elements between the matrices of the widest MLP that one token has."""
        return max(kind.mlp_width for kind in self.kinds)

    @cached_property
    def num_all_reduces(self) -> float:
        """All-reduces of a mean layer under tensor parallelism: two, of attention and MLP."""
        return mean_of(self.counts, lambda kind: kind.num_all_reduces)

    @property
    def static_only(self) -> str | None:
        """Why a worker cannot re-shard this model, None if it can."""
        return self.cannot_reshard or _unlike_kv(self.kinds)

    @property
    def is_plain(self) -> bool:
        """Whether all layers have softmax attention over all keys and values, and equal KV."""
        mixings = {None if kind.mixer is None else kind.mixer.mixing for kind in self.kinds}
        return mixings == {Mixing.FULL} and _unlike_kv(self.kinds) is None


def dense_model(
    *, name: str, shape: ModelShape, hidden: int, intermediate: int, vocab: int
) -> Model:
    """Return a model of equal layers with softmax attention and an MLP of three matrices."""
    heads = Heads(
        num=shape.num_heads,
        num_kv=shape.num_kv_heads,
        dim=shape.head_dim,
        value_dim=shape.head_dim,
    )
    layer = Layer(mixer=attention(hidden, heads), mlp=dense_mlp(hidden, intermediate))
    return Model(
        name=name,
        shape=shape,
        hidden=hidden,
        vocab=vocab,
        kinds=(layer,),
        pattern=(0,) * shape.num_layers,
    )


def _unlike_kv(kinds: Sequence[Layer]) -> str | None:
    """Return why the worker's KV buffer, which has equal pages, cannot carry what layers keep."""
    mixings = {None if kind.mixer is None else kind.mixer.mixing for kind in kinds}
    if Mixing.STATE in mixings:
        return "it keeps recurrent state beside its KV"
    if Mixing.LATENT in mixings:
        return "its latent attention has no KV heads to divide"
    if Mixing.SPARSE in mixings:
        return "its sparse attention keeps an index beside its KV"
    if len({tuple(cache.form for cache in kind.caches) for kind in kinds}) > 1:
        return "its layers keep KV of different shapes"
    return None


def _sum(products: Sequence[Product]) -> int:
    return sum(p.params for p in products)
