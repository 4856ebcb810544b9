"""Models as their Hugging Face ``config.json`` describes them.

Fields have several names in the wild, defaults differ by type, and what the counting formulas of
:mod:`seesaw_core.models` do not hold for is refused rather than counted wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seesaw_core.errors import ModelError
from seesaw_core.layouts import ModelShape
from seesaw_core.models import Experts, Model
from seesaw_core.quantization import read_quantization

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float": 4, "half": 2}
_KV_DTYPE_BYTES = {"auto": None, **_DTYPE_BYTES, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}

# One field has several names in the wild; the first is the usual one and stands in messages.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
_INTERMEDIATE = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
_LLAMA4_DENSE = "intermediate_size_mlp"  # beside intermediate_size, that of its experts
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk")
_SHARED = ("shared_expert_intermediate_size", "shared_intermediate_size")
_SHARED_EXPERTS = ("n_shared_experts",)
_EVERY = ("decoder_sparse_step", "moe_layer_freq", "interleave_moe_layer_step")
_MAX_TOKENS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")

# Model types that were counted against transformers' own modules. The first have two matrices in
# an MLP, the others a gate as well, like Llama.
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
# Where transformers' defaults, which checkpoints leave out, are not Llama's.
_TIED = {
    *("gpt2", "gpt_bigcode", "opt", "falcon", "mpt", "starcoder2", "gemma", "gemma2", "gemma3"),
    *("cohere", "cohere2", "smollm3", "ernie4_5"),
}
_FOUR_TIMES = {"gpt2", "gptj", "gpt_bigcode", "mpt", "falcon"}  # the width of an MLP
# What the checkpoints of a type leave to transformers' defaults, as far as that is usual: asking
# transformers takes seconds.
LEFT_OUT: Mapping[str, Mapping[str, int]] = {
    "gemma3": {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
    }
}
# What models are made for that answer in one step.
_ENCODERS = ("MaskedLM", "Classification", "QuestionAnswering", "Encoder", "Bert", "BertModel")
# What only models have whose layers keep a state in place of keys and values, or some of them.
_STATE_FIELDS = (
    *("ssm_cfg", "state_size", "ssm_state_size", "mamba_d_state", "mamba_expand"),
    *("linear_num_value_heads", "linear_attn_config", "attn_layer_period", "conv_L_cache"),
    *("layers_block_type", "block_types", "hybrid_override_pattern"),
)


def describe_model(
    config: Mapping[str, Any], *, name: str, dtype: str = "auto", kv_dtype: str = "auto"
) -> Model:
    """Read a model's ``config.json``.

    ``dtype`` and ``kv_dtype`` are vLLM's: ``auto`` serves float32 checkpoints in 16 bits.
    Raises: ModelError naming the field, its value and what would be accepted.
    """
    fields = _Fields(config)
    _refuse_other_architectures(fields)
    num_layers, heads = fields.count(*_LAYERS), fields.count(*_HEADS)
    hidden = fields.count(*_HIDDEN)
    shape = ModelShape(
        num_layers=num_layers,
        num_heads=heads,
        num_kv_heads=_num_kv_heads(fields, heads),
        head_dim=_head_dim(fields, hidden, heads),
    )
    dtype_bytes = _dtype_bytes(fields, dtype)
    if kv_dtype not in _KV_DTYPE_BYTES:
        raise ModelError(f"KV dtype {kv_dtype!r} is not known; known: {sorted(_KV_DTYPE_BYTES)}")
    weight_bytes, arithmetic = read_quantization(
        fields.optional("quantization_config", "compression_config"), dtype_bytes
    )
    model_type = fields.model_type
    dense = (_LLAMA4_DENSE,) if _LLAMA4_DENSE in fields else _INTERMEDIATE
    usual = 4 * hidden if model_type in _FOUR_TIMES else None
    return Model(
        name=name,
        shape=shape,
        hidden=hidden,
        intermediate=fields.count(*dense, default=usual),
        vocab=fields.count("vocab_size"),
        mlp_matrices=2 if model_type in UNGATED else 3,
        experts=_experts(fields, num_layers),
        tied=_is_tied(fields, model_type),
        dtype_bytes=dtype_bytes,
        weight_bytes=weight_bytes,
        kv_bytes=_KV_DTYPE_BYTES[kv_dtype] or dtype_bytes,
        arithmetic=arithmetic,
        max_tokens=fields.count(*_MAX_TOKENS, default=4096),
        assumptions=tuple(_assumptions(fields, model_type)),
    )


def leaves_fields_out(config: Mapping[str, Any]) -> bool:
    """Whether a config relies on defaults of its type that only transformers knows."""
    fields = _Fields(config)
    needed = (_LAYERS, _HIDDEN, _HEADS, _MAX_TOKENS)
    return any(fields.optional(*names) is None for names in needed)


class _Fields:
    """A config's fields, the text part's first where a model has several parts."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        inner = next(
            (c for n in ("text_config", "llm_config") if isinstance(c := config.get(n), Mapping)),
            {},
        )
        told = {n: value for n, value in {**config, **inner}.items() if value is not None}
        self.model_type = str(told.get("model_type") or "").removesuffix("_text")
        self._all: dict[str, Any] = {**LEFT_OUT.get(self.model_type, {}), **told}

    def __contains__(self, name: str) -> bool:
        return name in self._all

    def optional(self, *names: str) -> Any:
        return next((self._all[n] for n in names if n in self._all), None)

    def strings(self, name: str) -> list[str]:
        """A list of strings; empty if there is none. Raises: ModelError."""
        return [str(value) for value in self._list(name)]

    def counts(self, name: str) -> list[int]:
        """A list of whole numbers; empty if there is none. Raises: ModelError."""
        values = self._list(name)
        if not all(isinstance(value, int) for value in values):
            raise ModelError(f"config.json: {name}={values!r} must be a list of whole numbers")
        return values

    def _list(self, name: str) -> list[Any]:
        value = self._all.get(name) or []
        if not isinstance(value, list | tuple):
            raise ModelError(f"config.json: {name}={value!r} must be a list")
        return list(value)

    def refuse_unread(self, part: str, *, read: Sequence[str]) -> None:
        """Raises: ModelError if a count has ``part`` in its name, and nobody would read it."""
        for name, value in self._all.items():
            if part in name and name not in read and isinstance(value, int) and value > 1:
                raise ModelError(
                    f"config.json: {name}={value} is not understood; a mixture of experts has "
                    f"{', '.join(_EXPERTS)} and {_PER_TOKEN[0]}"
                )

    def count(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of at least ``least``. Raises: ModelError."""
        found = next((n for n in names if n in self._all), None)
        if found is None:
            if default is not None:
                return default
            also = f" (or {', '.join(names[1:])})" if names[1:] else ""
            raise ModelError(f"config.json lacks {names[0]}{also}, a whole number of at least 1")
        value = self._all[found]
        if isinstance(value, Sequence) and not isinstance(value, str) and len(set(value)) == 1:
            value = value[0]  # one figure a layer, all alike
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ModelError(
                f"config.json: {found}={value!r} must be a whole number of at least {least}"
            )
        return value


def _refuse_other_architectures(fields: _Fields) -> None:
    """Raises: ModelError for what would be counted wrong by the formulas above."""
    if "kv_lora_rank" in fields:
        raise ModelError(
            f"config.json: kv_lora_rank={fields.optional('kv_lora_rank')}: latent attention is not "
            "described yet; models with num_key_value_heads are"
        )
    if fields.optional("is_encoder_decoder"):
        raise ModelError(
            "config.json: is_encoder_decoder=true: only decoders are described, such as Llama"
        )
    for architecture in fields.strings("architectures"):
        if architecture.endswith(_ENCODERS):
            raise ModelError(
                f"config.json: architectures={architecture!r}: only models that generate text are "
                "described"
            )
    found = next((name for name in _STATE_FIELDS if name in fields), None)
    for kind in fields.strings("layer_types"):
        if kind == "linear_attention" or not kind.endswith("attention"):
            found = "layer_types"
    if found:
        raise ModelError(
            f"config.json: {found}={str(fields.optional(found))[:60]}: layers that keep a state "
            "in place of keys and values (Mamba, linear attention) are not described yet"
        )
    if "block_configs" in fields:
        raise ModelError(
            "config.json: block_configs: layers of different shapes are not described yet"
        )


def _assumptions(fields: _Fields, model_type: str) -> Iterator[str]:
    """What a reader of the plan should know of how the config was read."""
    if model_type not in GATED | UNGATED:
        yield f"model_type={model_type or None!r} is not one that was checked: counted like Llama"
    if fields.optional(*_MAX_TOKENS) is None:
        yield f"{_MAX_TOKENS[0]} is missing: taken as 4,096"
    window = fields.optional("sliding_window")
    if isinstance(window, int) and fields.optional("use_sliding_window") is not False:
        yield f"sliding_window={window:,} is left out: all layers are taken to keep all KV"


def _num_kv_heads(fields: _Fields, heads: int) -> int:
    if fields.optional("multi_query") and not fields.optional("new_decoder_architecture"):
        return 1
    kv_heads = fields.count(*_KV_HEADS, default=heads)
    if heads % kv_heads:
        raise ModelError(
            f"config.json: num_key_value_heads={kv_heads} must divide num_attention_heads={heads}"
        )
    return kv_heads


def _head_dim(fields: _Fields, hidden: int, heads: int) -> int:
    if "head_dim" not in fields and hidden % heads:
        raise ModelError(
            f"config.json: hidden_size={hidden} is not divisible by num_attention_heads={heads}, "
            "and there is no head_dim"
        )
    return fields.count("head_dim", default=hidden // heads)


def _dtype_bytes(fields: _Fields, dtype: str) -> int:
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


def _is_tied(fields: _Fields, model_type: str) -> bool:
    tied = fields.optional("tie_word_embeddings")
    return bool(tied) if tied is not None else model_type in _TIED


def _experts(fields: _Fields, num_layers: int) -> Experts | None:
    if fields.optional(*_EXPERTS) in (None, 0, 1):
        fields.refuse_unread("expert", read=(*_EXPERTS, *_PER_TOKEN, *_SHARED_EXPERTS))
        return None
    count = fields.count(*_EXPERTS)
    per_token = fields.count(*_PER_TOKEN)
    if per_token > count:
        raise ModelError(
            f"config.json: num_experts_per_tok={per_token} must be at most the {count} experts"
        )
    width = fields.count("moe_intermediate_size", *_INTERMEDIATE)
    shared = fields.count(*_SHARED, default=0, least=0)
    if not shared:
        alike = 1 if "interleave_moe_layer_step" in fields else 0  # Llama 4 does not say it
        shared = width * fields.count(*_SHARED_EXPERTS, default=alike, least=0)
    every = fields.count(*_EVERY, default=1)
    dense = set(fields.counts("mlp_only_layers"))
    dense |= set(range(fields.count("first_k_dense_replace", default=0, least=0)))
    mixed = [i for i in range(num_layers) if (i + 1) % every == 0 and i not in dense]
    return Experts(
        count=count,
        per_token=per_token,
        intermediate=width,
        shared_intermediate=shared,
        num_layers=len(mixed),
    )
