"""Reads the layers of models from their configs, one function for each family of architectures.

The field that a family alone has tells it from the others.
"""

from collections.abc import Callable

from seesaw_core.planner.layer_readers.basis import Basis, Mlps, Read, by_name
from seesaw_core.planner.layer_readers.latent import compressed, latent
from seesaw_core.planner.layer_readers.mixed import (
    delta_net,
    gemma4,
    kimi_linear,
    mimo_v2,
    minimax_m3,
    nemotron_h,
)
from seesaw_core.planner.layer_readers.searched import searched
from seesaw_core.planner.layer_windows import read_windows
from seesaw_core.planner.layers import Layer
from seesaw_core.planner.mixers import attention
from seesaw_core.planner.model_fields import Fields


def read_layers(fields: Fields, basis: Basis) -> Read:
    """Return the layers of any model that is described. Raises: ModelError naming the field."""
    for name, read in FAMILIES.items():
        if name in fields and fields.optional(name) not in (None, 0, [], {}, ""):
            if name not in _READ_LAYER_TYPES:
                by_name("layer_types", fields.strings("layer_types"), _PASSED_LAYER_TYPES)
            return read(fields, basis)
    return usual(fields, basis)


def is_family(fields: Fields) -> bool:
    """Return whether a function of its own reads the model."""
    return any(
        name in fields and fields.optional(name) not in (None, 0, [], {}, "") for name in FAMILIES
    )


def usual(fields: Fields, basis: Basis) -> Read:
    mlps = Mlps(fields, basis)
    windows = read_windows(fields, basis.num_layers)
    layers = [
        Layer(mixer=attention(basis.hidden, basis.heads, window=window), mlp=mlps.of(n))
        for n, window in enumerate(windows)
    ]
    return Read(layers=layers, heads=basis.heads)


# Families that go by ``layer_types``, and what others may name there without being misread.
_READ_LAYER_TYPES = {"linear_num_value_heads", "global_head_dim"}
_PASSED_LAYER_TYPES = {"full_attention": None, "deepseek_sparse_attention": None}

# By the field that only this family has. The first that a config has counts.
FAMILIES: dict[str, Callable[[Fields, Basis], Read]] = {
    "block_configs": searched,
    "linear_attn_config": kimi_linear,
    "compress_ratios": compressed,
    "kv_lora_rank": latent,
    "linear_num_value_heads": delta_net,
    "mamba_num_heads": nemotron_h,
    "global_head_dim": gemma4,
    "hybrid_layer_pattern": mimo_v2,
    "sparse_attention_config": minimax_m3,
}
