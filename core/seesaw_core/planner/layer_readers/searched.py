"""Blocks of different shape, as architecture search leaves them."""

from dataclasses import replace
from typing import Any

from seesaw_core.errors import ModelError
from seesaw_core.planner.bounds import shown
from seesaw_core.planner.layer_readers.basis import Basis, Read
from seesaw_core.planner.layers import Layer
from seesaw_core.planner.mixers import (
    Heads,
    attention,
)
from seesaw_core.planner.mlps import dense_mlp
from seesaw_core.planner.model_fields import Fields, refuse_wrong_length


def searched(fields: Fields, basis: Basis) -> Read:
    """Nemotron-NAS: each layer has its own number of KV heads and its own MLP, or lacks either."""
    blocks = fields.list_of("block_configs")
    refuse_wrong_length("block_configs", blocks, basis.num_layers)
    layers = []
    for n, block in enumerate(blocks[: basis.num_layers]):
        heads, width = _searched_heads(block, n, basis), _searched_width(block, n, basis)
        layers.append(
            Layer(
                mixer=None if heads is None else attention(basis.hidden, heads),
                mlp=dense_mlp(basis.hidden, width) if width else (),
            )
        )
    most = max((h.num_kv for h in (_searched_heads(b, 0, basis) for b in blocks) if h), default=1)
    return Read(layers=layers, heads=replace(basis.heads, num_kv=most))


def _searched_part(block: Any, layer: int, name: str) -> Fields | None:
    """Return a part of a layer, None if the layer has none. Raises: ModelError."""
    part = block.get(name) if isinstance(block, dict) else None
    if not isinstance(part, dict):
        raise ModelError(
            f"config.json: block_configs[{layer}] must have {name}, an object; got {shown(block)}"
        )
    for unread in ("replace_with_linear", "sparsify", "window_length"):
        if part.get(unread):
            raise ModelError(
                f"config.json: block_configs[{layer}].{name}.{unread} is not described; give a "
                "worker its layouts by hand"
            )
    return None if part.get("no_op") else Fields(part)


def _searched_heads(block: Any, layer: int, basis: Basis) -> Heads | None:
    part = _searched_part(block, layer, "attention")
    if part is None:
        return None
    in_group = part.count("n_heads_in_group")
    if basis.heads.num % in_group:
        raise ModelError(
            f"config.json: block_configs[{layer}].attention.n_heads_in_group={in_group} must "
            f"divide num_attention_heads={basis.heads.num}"
        )
    return replace(basis.heads, num_kv=basis.heads.num // in_group)


def _searched_width(block: Any, layer: int, basis: Basis) -> int:
    """Return the width of a layer's MLP: two thirds of a multiple, rounded up to 256."""
    part = _searched_part(block, layer, "ffn")
    if part is None:
        return 0
    if part.optional("ffn_mult") is None:
        return part.count("intermediate_size")
    multiple = part.optional("ffn_mult")
    if not isinstance(multiple, int | float) or not 0 < multiple <= 1000:
        raise ModelError(
            f"config.json: block_configs[{layer}].ffn.ffn_mult={shown(multiple)} must be a number "
            "above 0, of at most 1,000"
        )
    return -(-int(2 * multiple * basis.hidden / 3) // 256) * 256
