"""Models as the cost model sees them.

A description counts parameters, bytes and floating-point operations. It knows nothing of devices
or layouts. Norms, biases and learned positions are left out; in a model of a billion parameters
they are less than a thousandth.
"""

from dataclasses import dataclass
from enum import StrEnum

from seesaw_core.layouts import ModelShape


class Arithmetic(StrEnum):
    """The number format of the layers' matrix products."""

    WIDE = "16 bits"
    INT8 = "int8"
    FP8 = "fp8"
    FP4 = "fp4"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The mixture-of-experts part of a model. ``num_layers`` counts the layers that have one."""

    count: int
    per_token: int
    intermediate: int
    shared_intermediate: int
    num_layers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model. Units: counts; ``weight_bytes`` per parameter, ``kv_bytes`` per element.

    ``weight_bytes`` is the mean over the layers' matrices, which quantisation shrinks; embedding
    and head keep ``dtype_bytes``. ``arithmetic`` is narrow if activations are quantised as well.
    ``assumptions`` are sentences about fields that the config left open.
    """

    name: str
    shape: ModelShape
    hidden: int
    intermediate: int
    vocab: int
    mlp_matrices: int = 3
    experts: Experts | None = None
    tied: bool = False
    dtype_bytes: int = 2
    weight_bytes: float = 2.0
    kv_bytes: int = 2
    arithmetic: Arithmetic = Arithmetic.WIDE
    max_tokens: int = 4096
    assumptions: tuple[str, ...] = ()

    @property
    def attention_params(self) -> int:
        """Parameters of one layer's four projections."""
        s = self.shape
        return self.hidden * s.head_dim * 2 * (s.num_heads + s.num_kv_heads)

    def mlp_params(self, num_tokens: float | None = None) -> float:
        """Parameters of a mean layer's MLP that ``num_tokens`` tokens use; None for all."""
        dense = self.mlp_matrices * self.hidden * self.intermediate
        if self.experts is None:
            return dense
        e = self.experts
        one = self.mlp_matrices * self.hidden * e.intermediate
        touched = e.count
        if num_tokens is not None:  # the experts of each token are taken as random
            touched = e.count * (1 - (1 - e.per_token / e.count) ** num_tokens)
        mixed = touched * one + self.mlp_matrices * self.hidden * e.shared_intermediate
        share = e.num_layers / self.shape.num_layers
        return share * (mixed + self.hidden * e.count) + (1 - share) * dense

    @property
    def params_per_token(self) -> float:
        """Parameters of a mean layer that each token is multiplied with."""
        if self.experts is None:
            return self.attention_params + self.mlp_params()
        e = self.experts
        width = e.per_token * e.intermediate + e.shared_intermediate
        mixed = self.hidden * (self.mlp_matrices * width + e.count)
        dense = self.mlp_matrices * self.hidden * self.intermediate
        share = e.num_layers / self.shape.num_layers
        return self.attention_params + share * mixed + (1 - share) * dense

    @property
    def layer_params(self) -> float:
        return self.attention_params + self.mlp_params()

    @property
    def head_params(self) -> int:
        """Parameters of the embedding, and of the output head: as many."""
        return self.vocab * self.hidden

    @property
    def num_params(self) -> float:
        matrices = 1 if self.tied else 2
        return self.shape.num_layers * self.layer_params + matrices * self.head_params

    @property
    def total_bytes(self) -> float:
        matrices = 1 if self.tied else 2
        layers = self.shape.num_layers * self.layer_params * self.weight_bytes
        return layers + matrices * self.head_params * self.dtype_bytes

    @property
    def kv_bytes_per_token_layer(self) -> int:
        """Bytes of keys and values of one token in one layer, all KV heads together."""
        return 2 * self.shape.num_kv_heads * self.shape.head_dim * self.kv_bytes

    @property
    def kv_bytes_per_token(self) -> int:
        return self.shape.num_layers * self.kv_bytes_per_token_layer
