"""The tensors of a synthetic checkpoint, and how their values are drawn.

The weights are noise, scaled so that greedy decoding varies instead of repeating one token, depends
on the whole context, and has top-1 margins far above float32 rounding: a wrong key, value or weight
shows up as a different token. This module knows nothing of files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch

from seesaw_worker.synthetic.spec import DTYPE_BYTES, Architecture, ModelSpec

_MATRIX_GAIN: Final = 1.5  # std is gain / sqrt(fan_in): each projection amplifies a little
_TIED_EMBEDDING_STD: Final = 0.1  # with a larger one, a tied head would repeat the last token
_NORM_STD: Final = 0.1
_BIAS_STD: Final = 0.5
_QUIET_SCALE: Final = 0.02
_TORCH_DTYPES: Final = {name: getattr(torch, name) for name in DTYPE_BYTES}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One tensor of the checkpoint: normal noise. Rows are outputs, columns are inputs."""

    name: str
    shape: tuple[int, ...]
    std: float
    mean: float = 0.0
    by_token: bool = False  # one row for each token of the vocabulary

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


def tensors(spec: ModelSpec) -> Iterator[TensorSpec]:
    """Yield every tensor of the checkpoint, in the order of the forward pass."""
    embedding = (spec.vocab_size, spec.hidden_size)
    yield TensorSpec(
        name="model.embed_tokens.weight",
        shape=embedding,
        std=_TIED_EMBEDDING_STD if spec.tied_embeddings else 1.0,
        by_token=spec.tied_embeddings,
    )
    for layer in range(spec.num_layers):
        prefix = f"model.layers.{layer}."
        yield _norm(prefix + "input_layernorm", spec.hidden_size)
        yield from _attention(prefix + "self_attn.", spec)
        yield _norm(prefix + "post_attention_layernorm", spec.hidden_size)
        if spec.architecture is Architecture.MIXTRAL:
            yield from _experts(prefix + "block_sparse_moe.", spec)
        else:
            yield _matrix(prefix + "mlp.gate_proj", spec.intermediate_size, spec.hidden_size)
            yield _matrix(prefix + "mlp.up_proj", spec.intermediate_size, spec.hidden_size)
            yield _matrix(prefix + "mlp.down_proj", spec.hidden_size, spec.intermediate_size)
    yield _norm("model.norm", spec.hidden_size)
    if not spec.tied_embeddings:
        yield dataclasses.replace(_matrix("lm_head", *embedding), by_token=True)


def num_parameters(spec: ModelSpec) -> int:
    """Return the number of values in the checkpoint, which stores a tied head once."""
    return sum(tensor.num_elements for tensor in tensors(spec))


def weights_bytes(spec: ModelSpec) -> int:
    """Return the size of the stored weights, without file headers."""
    return num_parameters(spec) * DTYPE_BYTES[spec.dtype]


def _attention(prefix: str, spec: ModelSpec) -> Iterator[TensorSpec]:
    query_rows = spec.num_heads * spec.head_dim
    kv_rows = spec.num_kv_heads * spec.head_dim
    for name, rows in (("q", query_rows), ("k", kv_rows), ("v", kv_rows)):
        yield _matrix(f"{prefix}{name}_proj", rows, spec.hidden_size)
        if spec.architecture is Architecture.QWEN2:
            yield TensorSpec(name=f"{prefix}{name}_proj.bias", shape=(rows,), std=_BIAS_STD)
    if spec.architecture is Architecture.QWEN3:
        for name in ("q", "k"):  # the gain of the other projections keeps attention sharp
            norm = _norm(f"{prefix}{name}_norm", spec.head_dim)
            yield dataclasses.replace(norm, mean=_MATRIX_GAIN)
    yield _matrix(prefix + "o_proj", spec.hidden_size, query_rows)


def _experts(prefix: str, spec: ModelSpec) -> Iterator[TensorSpec]:
    yield _matrix(prefix + "gate", spec.num_experts, spec.hidden_size)
    for expert in range(spec.num_experts):
        name = f"{prefix}experts.{expert}."
        yield _matrix(name + "w1", spec.intermediate_size, spec.hidden_size)
        yield _matrix(name + "w2", spec.hidden_size, spec.intermediate_size)
        yield _matrix(name + "w3", spec.intermediate_size, spec.hidden_size)


def _matrix(name: str, rows: int, columns: int) -> TensorSpec:
    return TensorSpec(name=f"{name}.weight", shape=(rows, columns), std=_MATRIX_GAIN / columns**0.5)


def _norm(name: str, size: int) -> TensorSpec:
    return TensorSpec(name=f"{name}.weight", shape=(size,), std=_NORM_STD, mean=1.0)


def draw(tensor: TensorSpec, spec: ModelSpec, quiet_ids: list[int]) -> torch.Tensor:
    """Draw one tensor. Its own random stream makes its values independent of other tensors."""
    digest = hashlib.sha256(f"{spec.seed}/{tensor.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    values = torch.randn(tensor.shape, generator=generator).mul_(tensor.std).add_(tensor.mean)
    if tensor.by_token:
        values[quiet_ids] *= _QUIET_SCALE
    return values.to(_TORCH_DTYPES[spec.dtype])
