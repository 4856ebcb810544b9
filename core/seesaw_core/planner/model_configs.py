"""Reads models from their Hugging Face ``config.json``.

Fields have several names in the wild, and defaults differ by model type. A model for which the
formulas of :mod:`seesaw_core.planner.models` do not hold is refused rather than counted wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from seesaw_core.errors import ModelError
from seesaw_core.layouts import ModelShape
from seesaw_core.planner.bounds import most
from seesaw_core.planner.layer_readers.basis import Basis
from seesaw_core.planner.layer_readers.families import is_family, read_layers
from seesaw_core.planner.layer_windows import is_window_left_out
from seesaw_core.planner.layers import Layer
from seesaw_core.planner.mixers import Heads
from seesaw_core.planner.model_experts import names_of_experts, read_experts
from seesaw_core.planner.model_fields import Fields
from seesaw_core.planner.model_refusals import (
    notes_on_parts,
    refuse_other_architectures,
    refuse_other_widths,
)
from seesaw_core.planner.models import Model
from seesaw_core.planner.quantization import (
    expert_rules,
    not_understood,
    read_quantization,
)
from seesaw_core.planner.quantized_modules import weigh

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float": 4, "half": 2}
_KV_DTYPE_BYTES = {"auto": None, **_DTYPE_BYTES, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}

# One field has several names in the wild. The first is the usual one, which messages name.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
_HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim", "head_size")
_MAX_TOKENS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")

# Model types whose counts were checked against transformers' own modules. The MLPs of the first set
# have two matrices; those of the second have a gate as well, like Llama.
UNGATED = {
    *("gpt2", "gpt_neox", "gptj", "gpt_bigcode", "opt", "falcon", "phi", "starcoder2", "mpt"),
    *("arcee", "apertus", "nemotron"),
}
GATED = {
    *("llama", "llama4", "mistral", "ministral", "mixtral", "qwen2", "qwen2_moe", "qwen3"),
    *("qwen3_moe", "gemma", "gemma2", "gemma3", "phi3", "phimoe", "olmo", "olmo2", "olmo3"),
    *("olmoe", "granite", "granitemoe", "granitemoeshared", "cohere", "cohere2", "stablelm"),
    *("exaone4", "gpt_oss", "smollm3", "glm", "glm4", "ernie4_5", "seed_oss", "minimax_m2"),
}
# Types with layers of their own, of which public configs were checked.
OTHERS = {
    *("deepseek_v3", "deepseek_v32", "deepseek_v4", "deepseek_ref", "kimi_k2", "kimi_linear"),
    *("glm_moe_dsa", "qwen3_5", "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe", "nemotron_h", "mimo"),
    *("nemotron-nas", "gemma4", "mimo_v2_flash", "minimax_m3", "minimax_m3_vl", "step3p7"),
}
# Types whose defaults in transformers, which checkpoints leave out, differ from Llama's.
_TIED = {
    *("gpt2", "gpt_bigcode", "opt", "falcon", "mpt", "starcoder2", "gemma", "gemma2", "gemma3"),
    *("cohere", "cohere2", "smollm3", "ernie4_5"),
}
# Types whose MLP is usually four times as wide as the hidden size.
_FOUR_TIMES = {"gpt2", "gptj", "gpt_bigcode", "mpt", "falcon"}
# Fields that the checkpoints of a type usually leave to transformers' defaults. Asking transformers
# itself takes seconds.
LEFT_OUT: Mapping[str, Mapping[str, int]] = {
    "gemma3": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
    }
}


def describe_model(
    config: Mapping[str, Any], *, name: str, dtype: str = "auto", kv_dtype: str = "auto"
) -> Model:
    """Read a model's ``config.json``.

    ``dtype`` and ``kv_dtype`` are vLLM's flags; ``auto`` serves float32 checkpoints in 16 bits.
    Raises: ModelError naming the field, its value and what would be accepted.
    """
    fields = Fields(config, LEFT_OUT)
    refuse_other_architectures(fields)
    if kv_dtype not in _KV_DTYPE_BYTES:
        raise ModelError(f"KV dtype {kv_dtype!r} is not known; known: {sorted(_KV_DTYPE_BYTES)}")
    basis = _basis(fields)
    read = read_layers(fields, basis)
    if basis.experts is None:
        _refuse_experts(fields)
    model_type = fields.model_type
    wide = Model(
        name=name,
        shape=ModelShape(
            num_layers=basis.num_layers,
            num_heads=read.heads.num,
            num_kv_heads=read.heads.num_kv,
            head_dim=read.heads.dim,
            other_heads=read.other_heads,
        ),
        hidden=basis.hidden,
        vocab=fields.count("padded_vocab_size", "vocab_size"),
        **_kinds_of(read.layers),
        tied=_is_tied(fields, model_type),
        dtype_bytes=_dtype_bytes(fields, dtype),
        max_tokens=fields.count(*_MAX_TOKENS, default=4096),
    )
    return _quantized(wide, read.layers, fields, kv_dtype)


def _basis(fields: Fields) -> Basis:
    """Read what all families have."""
    layers_named = fields.list_of("layers_block_type")
    num_layers = fields.count(*_LAYERS, default=len(layers_named) or None)
    if num_layers > (bound := most(_LAYERS)):
        raise ModelError(
            f"config.json: layers_block_type names {num_layers:,} layers; at most {bound:,} are "
            "planned"
        )
    heads, hidden = fields.count(*_HEADS), fields.count(*_HIDDEN)
    head_dim = _head_dim(fields, hidden, heads)
    if not is_family(fields):
        refuse_other_widths(fields, hidden, head_dim)
    usual = fields.count("expansion_ratio", default=4) * hidden
    return Basis(
        num_layers=num_layers,
        hidden=hidden,
        heads=Heads(
            num=heads, num_kv=_num_kv_heads(fields, heads), dim=head_dim, value_dim=head_dim
        ),
        experts=read_experts(fields, num_layers),
        mlp_matrices=2 if fields.model_type in UNGATED else 3,
        usual_intermediate=usual if fields.model_type in _FOUR_TIMES else None,
    )


def _kinds_of(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the fields of a model for its layers, one after the other."""
    kinds = {kind: number for number, kind in enumerate(dict.fromkeys(layers))}
    return {"kinds": tuple(kinds), "pattern": tuple(kinds[layer] for layer in layers)}


def _quantized(model: Model, layers: Sequence[Layer], fields: Fields, kv_dtype: str) -> Model:
    """Return the model as its checkpoint stores it, with notes for the reader of the plan."""
    declared = fields.optional("quantization_config", "compression_config")
    quantization = read_quantization(declared, model.dtype_bytes)
    rules = (*quantization.rules, *expert_rules(fields.optional("expert_dtype")))
    weights = weigh(layers, quantization.weight_bytes, rules)
    notes = [*_assumptions(fields, model), *notes_on_parts(fields)]
    if unread := not_understood(declared):
        notes.append(
            f"{', '.join(unread[:8])}: not understood, so left out although it may give modules "
            "other widths"
        )
    if weights.unmatched:
        shown = ", ".join(name[:60] for name in weights.unmatched[:4])
        more = f" and {len(weights.unmatched) - 4} more" if len(weights.unmatched) > 4 else ""
        notes.append(
            f"quantization_config names modules that are none of the layers' matrices: "
            f"{shown}{more}; they are left out of the count"
        )
    kv_bytes = _KV_DTYPE_BYTES[kv_dtype]
    if kv_bytes is None and quantization.kv_bytes is not None:
        notes.append("the checkpoint asks for KV in 8 bits: --kv-cache-dtype sets another dtype")
        kv_bytes = quantization.kv_bytes
    return replace(
        model,
        **_kinds_of(weights.layers),
        head_bytes=quantization.head_bytes,
        kv_bytes=kv_bytes or model.dtype_bytes,
        arithmetic=quantization.arithmetic,
        cannot_reshard=quantization.cannot_reshard,
        assumptions=tuple(notes),
    )


def leaves_fields_out(config: Mapping[str, Any]) -> bool:
    """Return whether a config relies on defaults of its type that only transformers knows."""
    fields = Fields(config, LEFT_OUT)
    needed = ((*_LAYERS, "layers_block_type"), _HIDDEN, _HEADS, _MAX_TOKENS)
    return any(fields.optional(*names) is None for names in needed)


def _assumptions(fields: Fields, model: Model) -> Iterator[str]:
    """Yield notes on how the config was read."""
    model_type = fields.model_type
    if model_type not in GATED | UNGATED | OTHERS:
        yield f"model_type={model_type or None!r} was not checked: it is counted like Llama"
    if fields.optional(*_MAX_TOKENS) is None:
        yield f"{_MAX_TOKENS[0]} is missing: taken as 4,096"
    windows = [None if not m.caches else m.caches[0].window for m in model.kinds]
    if is_window_left_out(fields, windows):
        window = fields.optional("sliding_window", "sliding_window_size")
        yield f"sliding_window={window:,} is left out: all layers are taken to keep all KV"


def _refuse_experts(fields: Fields) -> None:
    """Raises: ModelError if the config has a field about experts that was not read."""
    for name, value in fields.unread():
        if "expert" in name and value != "1":
            raise ModelError(
                f"config.json: {name}={value} is not understood; a mixture of experts has "
                f"{names_of_experts()}"
            )


def _num_kv_heads(fields: Fields, heads: int) -> int:
    if fields.optional("multi_query_attention") is False:  # ChatGLM: then the groups say nothing
        fields.optional("multi_query_group_num")
        return heads
    fields.optional(*_KV_HEADS)
    if fields.optional("multi_query") and not fields.optional("new_decoder_architecture"):
        return 1
    kv_heads = fields.count(*_KV_HEADS, default=heads)
    if heads % kv_heads:
        raise ModelError(
            f"config.json: num_key_value_heads={kv_heads} must divide num_attention_heads={heads}"
        )
    return kv_heads


def _head_dim(fields: Fields, hidden: int, heads: int) -> int:
    if "kv_lora_rank" in fields:  # the widths of latent attention have names of their own
        return fields.count(*_HEAD_DIM, default=1)
    if fields.optional(*_HEAD_DIM) is None and hidden % heads:
        raise ModelError(
            f"config.json: hidden_size={hidden} is not divisible by num_attention_heads={heads}, "
            "and there is no head_dim"
        )
    return fields.count(*_HEAD_DIM, default=hidden // heads)


def _dtype_bytes(fields: Fields, dtype: str) -> int:
    if dtype != "auto":
        if dtype not in _DTYPE_BYTES:
            raise ModelError(f"dtype {dtype!r} is not known; known: auto, {sorted(_DTYPE_BYTES)}")
        return _DTYPE_BYTES[dtype]
    stored = str(fields.optional("torch_dtype", "dtype") or "bfloat16").removeprefix("torch.")
    if stored not in _DTYPE_BYTES:
        raise ModelError(
            f"config.json: torch_dtype={stored!r} is not known; known: {sorted(_DTYPE_BYTES)}"
        )
    return 2


def _is_tied(fields: Fields, model_type: str) -> bool:
    tied = fields.optional("tie_word_embeddings")
    return bool(tied) if tied is not None else model_type in _TIED
