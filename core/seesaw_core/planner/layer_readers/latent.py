"""Latent attention: DeepSeek, Kimi K2, GLM-5."""

from seesaw_core.errors import ModelError
from seesaw_core.planner.bounds import shown
from seesaw_core.planner.compressed import Widths, compressed_attention
from seesaw_core.planner.layer_readers.basis import Basis, Mlps, Read
from seesaw_core.planner.layers import Layer
from seesaw_core.planner.mixers import (
    Heads,
    Index,
    Latents,
    latent_attention,
    sparse,
)
from seesaw_core.planner.model_fields import Fields, refuse_wrong_length


def latent(fields: Fields, basis: Basis) -> Read:
    """DeepSeek-V2 to V3.2, Kimi K2, GLM-5."""
    widths = read_latents(fields)
    indexed = _indexed(fields, basis.num_layers)
    mlps = Mlps(fields, basis)
    layers = []
    for n, index in enumerate(indexed):
        most_read = None if index is None else fields.count("index_topk")
        mixer = latent_attention(basis.hidden, basis.heads.num, widths, most_read=most_read)
        if index:
            mixer = sparse(basis.hidden, mixer, _index(fields, widths.query_rank))
        layers.append(Layer(mixer=mixer, mlp=mlps.of(n)))
    return Read(layers=layers, heads=latent_heads(basis, widths))


def read_latents(fields: Fields) -> Latents:
    fields.optional("qk_head_dim", "head_dim")  # sums of the following
    return Latents(
        query_rank=fields.count("q_lora_rank", default=0, least=0),
        kv_rank=fields.count("kv_lora_rank"),
        nope_dim=fields.count("qk_nope_head_dim"),
        rope_dim=fields.count("qk_rope_head_dim"),
        value_dim=fields.count("v_head_dim"),
    )


def latent_heads(basis: Basis, widths: Latents) -> Heads:
    compressed = widths.kv_rank + widths.rope_dim
    return Heads(num=basis.heads.num, num_kv=1, dim=compressed, value_dim=compressed)


def _index(fields: Fields, query_inputs: int) -> Index:
    return Index(
        heads=fields.count("index_n_heads"),
        dim=fields.count("index_head_dim"),
        query_inputs=query_inputs,
        most_read=fields.count("index_topk"),
    )


def _indexed(fields: Fields, num_layers: int) -> list[bool | None]:
    """Return for each layer whether it has an index of its own, None if it has none at all."""
    if not fields.optional("index_topk"):
        return [None] * num_layers
    named = fields.strings("indexer_types")
    if not named:
        return [True] * num_layers
    refuse_wrong_length("indexer_types", named, num_layers)
    return [kind == "full" for kind in named[:num_layers]]


def compressed(fields: Fields, basis: Basis) -> Read:
    """DeepSeek-V4."""
    ratios = fields.counts("compress_ratios")
    refuse_wrong_length("compress_ratios", ratios, basis.num_layers)
    if wrong := next((r for r in ratios if r not in (0, 4, 128)), None):
        raise ModelError(
            f"config.json: compress_ratios={shown(wrong)} is not described; described are 0, 4 and "
            "128"
        )
    widths = Widths(
        hidden=basis.hidden,
        heads=basis.heads.num,
        dim=basis.heads.dim,
        query_rank=fields.count("q_lora_rank"),
        output_rank=fields.count("o_lora_rank"),
        output_groups=fields.count("o_groups"),
        index_heads=fields.count("index_n_heads"),
        index_dim=fields.count("index_head_dim"),
        index_read=fields.count("index_topk"),
        window=fields.count("sliding_window"),
        streams=fields.count("hc_mult"),
    )
    fields.optional("num_hash_layers", "qk_rope_head_dim")
    mlps = Mlps(fields, basis)
    layers = [
        Layer(mixer=compressed_attention(widths, ratio), mlp=mlps.of(n))
        for n, ratio in enumerate(ratios[: basis.num_layers])
    ]
    return Read(layers=layers, heads=basis.heads, other_heads=(widths.output_groups,))
