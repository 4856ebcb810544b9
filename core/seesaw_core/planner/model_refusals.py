"""Refuses or notes the fields of a config for which the counting formulas do not hold.

A field that changes a count and is not understood must be reported. Known fields are refused with a
way out; unknown fields whose names look like sizes become notes of the plan.
"""

from collections.abc import Callable, Iterator
from typing import Any

from seesaw_core.errors import ModelError
from seesaw_core.planner.bounds import shown
from seesaw_core.planner.layer_readers.families import is_family
from seesaw_core.planner.model_fields import Fields

_WAY_OUT = "give a worker its layouts by hand, or plan for a model of its size that is described"
# Ends of the architecture names of models that do not generate text.
_ENCODERS = ("MaskedLM", "Classification", "QuestionAnswering", "Encoder", "Bert", "BertModel")
# Fields of models in which some layers keep a state in place of keys and values.
_STATE_FIELDS = (
    *("ssm_cfg", "state_size", "ssm_state_size", "mamba_d_state", "mamba_expand", "mamba_n_heads"),
    *("linear_num_value_heads", "linear_attn_config", "attn_layer_period", "conv_L_cache"),
    *("layers_block_type", "block_types", "hybrid_override_pattern", "full_attention_interval"),
    *("attn_layer_indices", "full_attn_idxs", "mb_per_layer", "lru_width", "wkv_size"),
    *("linear_num_key_heads", "linear_key_head_dim", "hybrid_layer_pattern", "lightning_nope"),
)
# Layers that predict further tokens.
_NEXTN = (
    *("num_nextn_predict_layers", "mtp_num_layers", "num_mtp_modules", "mtp_num_hidden_layers"),
    "mtp_transformer_layers",
)


def _is_on(value: Any) -> bool:
    return value not in (None, False, 0, 1, [], {}, "")


# Fields that show that the formulas do not hold.
_REFUSED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "residual_moe": (bool, "a dense MLP beside the experts is not described yet"),
    "parallel_attn_mlp_res": (bool, "a dense MLP beside the experts is not described yet"),
    "use_residual": (bool, "a dense MLP beside the experts is not described yet"),
    "num_kv_shared_layers": (bool, "layers that share keys and values are not described yet"),
    "kv_sharing_map": (bool, "layers that share keys and values are not described yet"),
    "use_cla": (bool, "layers that share keys and values are not described yet"),
    "cla_share_factor": (_is_on, "layers that share keys and values are not described yet"),
    "num_self_decoder_layers": (bool, "layers that share keys and values are not described yet"),
    "kv_reuse_layers": (bool, "layers that share keys and values are not described yet"),
    "hidden_size_per_layer_input": (bool, "embeddings of each layer are not described yet"),
    "num_attention_groups": (_is_on, "grouped latent attention is not described yet"),
    "num_attention_heads_per_layer": (bool, "layers of different shapes are not described yet"),
    "num_heads_per_layer": (bool, "layers of different shapes are not described yet"),
    "num_query_heads": (bool, "layers of different shapes are not described yet"),
    "zero_expert_num": (bool, "experts that compute nothing are not described yet"),
}  # fmt: skip


def refuse_other_architectures(fields: Fields) -> None:
    """Raises: ModelError for a model that would be counted wrong, naming field and way out."""
    for name, (counts, why) in _REFUSED.items():
        if name in fields and counts(value := fields.optional(name)):
            raise ModelError(f"config.json: {name}={shown(value)}: {why}; {_WAY_OUT}")
    if fields.optional("is_encoder_decoder"):
        raise ModelError(
            "config.json: is_encoder_decoder=true: only decoders are described, such as Llama"
        )
    for architecture in fields.strings("architectures"):
        if architecture.endswith(_ENCODERS):
            raise ModelError(
                f"config.json: architectures={shown(architecture)}: only models that "
                "generate text are described"
            )
    if not is_family(fields) and (name_of_state := _state_field(fields)):
        value = shown(fields.optional(name_of_state))
        raise ModelError(
            f"config.json: {name_of_state}={value}: layers that keep a state in place of keys and "
            f"values (Mamba, linear attention) are not described yet; {_WAY_OUT}"
        )


def refuse_other_widths(fields: Fields, hidden: int, head_dim: int) -> None:
    """Raises: ModelError if values or embeddings have another size than keys and layers."""
    projected = fields.optional("word_embed_proj_dim", "embedding_size")
    if projected not in (None, hidden):
        raise ModelError(
            f"config.json: word_embed_proj_dim={shown(projected)}: embeddings of another size "
            f"than the layers (hidden_size={hidden}) are not described yet; {_WAY_OUT}"
        )
    width = fields.optional("v_head_dim", "value_head_dim")
    if width not in (None, head_dim):
        raise ModelError(
            f"config.json: v_head_dim={shown(width)}: values of another size than keys (head_dim="
            f"{head_dim}) are not described yet; {_WAY_OUT}"
        )


def notes_on_parts(fields: Fields) -> Iterator[str]:
    """Yield notes on parts and fields that are left out of the count."""
    for name in fields.other_parts():
        part = name.removesuffix("_config").replace("_", " ")
        yield f"{name}: the {part} part is left out of the count of weights"
    listed = fields.list_of("moe_layers")
    if listed and "interleave_moe_layer_step" not in fields:
        yield f"moe_layers names {len(listed)} layers; all are taken to have experts"
    for name in _NEXTN:
        if fields.optional(name):
            yield (
                f"{name}={shown(fields.optional(name))} is left out: such layers are loaded for "
                "speculative decoding alone"
            )
    unknown = [f"{name}={value}" for name, value in fields.unread()]
    if unknown:
        more = f" and {len(unknown) - 12} more" if len(unknown) > 12 else ""
        yield (
            f"not understood, so left out of the count although they may change it: "
            f"{', '.join(unknown[:12])}{more}"
        )


def _state_field(fields: Fields) -> str | None:
    for name in ("layer_types", "layer_type_list"):
        for kind in fields.strings(name):
            if kind == "linear_attention" or not kind.endswith("attention"):
                return name
    for name in ("attn_type_list", "attention_type_list"):  # 1 for softmax attention
        if any(kind not in (1, "1") for kind in fields.list_of(name)):
            return name
    return next((n for n in _STATE_FIELDS if n in fields and _is_on(fields.optional(n))), None)
