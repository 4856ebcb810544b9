"""The shape of a synthetic model, and the shapes in use.

It is a separate module so that a model can be described and compared without torch.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from seesaw_worker.synthetic.tokenizer import MIN_VOCAB_SIZE

DTYPE_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
"""The element types a checkpoint may have, and the size of one element."""

EXPERTS_PER_TOKEN: Final = 2
"""The number of experts that a mixture of experts selects for each token."""


class Architecture(StrEnum):
    """The supported model families. The value is the Hugging Face ``model_type``."""

    LLAMA = "llama"
    QWEN2 = "qwen2"  # biases on query, key and value
    QWEN3 = "qwen3"  # norms on query and key heads
    MISTRAL = "mistral"
    MIXTRAL = "mixtral"  # mixture of experts


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The shape of a decoder-only transformer, and the seed of its weights.

    ``num_experts`` is 0 unless the architecture is a mixture of experts. ``sliding_window`` is the
    number of tokens that a Mistral's attention covers; None covers all.
    Raises: ValueError if the values are inconsistent.
    """

    architecture: Architecture
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    tied_embeddings: bool
    dtype: str
    max_position_embeddings: int
    num_experts: int = 0
    sliding_window: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "intermediate_size", "num_layers", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads must divide hidden_size, got {self.num_heads} and {self.hidden_size}"
            )
        if self.num_kv_heads < 1 or self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_kv_heads must divide num_heads, got {self.num_kv_heads} and {self.num_heads}"
            )
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"head_dim must be even and at least 2, got {self.head_dim}")
        if self.vocab_size < MIN_VOCAB_SIZE:
            raise ValueError(f"vocab_size must be at least {MIN_VOCAB_SIZE}, got {self.vocab_size}")
        if self.dtype not in DTYPE_BYTES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPE_BYTES)}, got {self.dtype!r}")
        if self.max_position_embeddings < 1:
            raise ValueError(
                f"max_position_embeddings must be at least 1, got {self.max_position_embeddings}"
            )
        if self.architecture is Architecture.MIXTRAL:
            if self.num_experts < EXPERTS_PER_TOKEN:
                raise ValueError(f"num_experts must be at least 2, got {self.num_experts}")
        elif self.num_experts:
            raise ValueError(f"only mixtral has experts, got num_experts={self.num_experts}")
        if self.sliding_window is not None and (
            self.architecture is not Architecture.MISTRAL or self.sliding_window < 1
        ):
            raise ValueError(
                f"sliding_window must be at least 1, and only mistral has one, got "
                f"{self.sliding_window} for {self.architecture}"
            )


TINY: Final = ModelSpec(
    architecture=Architecture.LLAMA,
    hidden_size=256,
    intermediate_size=688,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=64,
    vocab_size=1000,
    tied_embeddings=False,
    dtype="float32",
    max_position_embeddings=2048,
)
"""The smallest Llama that can be split over two ranks in every supported way."""

TINY_MQA: Final = dataclasses.replace(TINY, num_kv_heads=1, tied_embeddings=True)
"""One KV head, which two tensor-parallel ranks replicate, and tied embeddings."""

TINY_QWEN3: Final = dataclasses.replace(TINY, architecture=Architecture.QWEN3, num_layers=5)
"""Query and key norms, and five layers, which two pipeline stages cannot share evenly."""

TINY_MIXTRAL: Final = dataclasses.replace(
    TINY, architecture=Architecture.MIXTRAL, intermediate_size=256, num_experts=4
)
"""Four experts, two of them chosen for each token."""

TINY_MISTRAL: Final = dataclasses.replace(
    TINY, architecture=Architecture.MISTRAL, sliding_window=96
)
"""Attention that covers only the last 96 tokens."""

DEMO: Final = ModelSpec(
    architecture=Architecture.LLAMA,
    hidden_size=512,
    intermediate_size=2048,
    num_layers=10,
    num_heads=8,
    num_kv_heads=4,
    head_dim=64,
    vocab_size=4096,
    tied_embeddings=False,
    dtype="float32",
    max_position_embeddings=4096,
)
"""The model of ``seesaw demo``: 43 M parameters, fast on two cores, exact in float32."""

BENCH: Final = ModelSpec(
    architecture=Architecture.LLAMA,
    hidden_size=2048,
    intermediate_size=5632,
    num_layers=10,
    num_heads=32,
    num_kv_heads=8,
    head_dim=64,
    vocab_size=32000,
    tied_embeddings=False,
    dtype="bfloat16",
    max_position_embeddings=4096,
)
"""The model of the benchmarks: about 1 GiB of bfloat16 with the proportions of a real model."""
