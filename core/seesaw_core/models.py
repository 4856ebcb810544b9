"""Models: what a cost model must know of one, read from its Hugging Face ``config.json``.

A description counts parameters, bytes and floating-point operations. It knows nothing of devices
or layouts. Norms and biases are left out: together less than a thousandth of the weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from seesaw_core.errors import ModelError
from seesaw_core.layouts import ModelShape

_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_KV_DTYPE_BYTES = {"auto": None, **_DTYPE_BYTES, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}

# One field has several names in the wild; the first is the usual one and stands in messages.
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
_INTERMEDIATE = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_MAX_TOKENS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")

# Model types whose MLP has two matrices, and those known to have a gate as well, like Llama.
_UNGATED = (
    *("gpt2", "gpt_neox", "gptj", "gpt_bigcode", "opt", "falcon", "phi", "starcoder2", "mpt"),
    "nemotron",
)
_GATED = (
    *("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma", "phi3", "phimoe", "olmo"),
    *("granite", "internlm", "cohere", "stablelm", "exaone", "gpt_oss", "smollm3", "glm"),
)
# What only models have whose layers keep a state in place of keys and values, or some of them.
_STATE_FIELDS = (
    *("ssm_cfg", "state_size", "ssm_state_size", "mamba_d_state", "mamba_expand"),
    *("linear_num_value_heads", "linear_attn_config", "attn_layer_period", "conv_L_cache"),
    *("layers_block_type", "block_types", "hybrid_override_pattern"),
)


class Arithmetic(StrEnum):
    """What the layers' matrix products are taken in."""

    WIDE = "16 bits"
    INT8 = "int8"
    FP8 = "fp8"


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
    """One model. Units: counts; ``weight_bytes`` and ``kv_bytes`` a parameter and an element.

    ``weight_bytes`` is that of the layers' matrices, which quantisation shrinks; embedding and
    head keep ``dtype_bytes``. ``arithmetic`` is narrow if activations are quantised as well.
    ``assumptions`` are sentences about what the config left open.
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
        """Parameters of a mean layer's MLP that ``num_tokens`` tokens touch; None for all."""
        dense = self.mlp_matrices * self.hidden * self.intermediate
        if self.experts is None:
            return dense
        e = self.experts
        one = self.mlp_matrices * self.hidden * e.intermediate
        touched = e.count
        if num_tokens is not None:  # each token draws its experts as if by lot
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
    weight_bytes, arithmetic = _quantised(fields, dtype_bytes)
    model_type = str(fields.optional("model_type") or "")
    return Model(
        name=name,
        shape=shape,
        hidden=hidden,
        intermediate=fields.count(*_INTERMEDIATE, default=4 * hidden),
        vocab=fields.count("vocab_size"),
        mlp_matrices=2 if model_type in _UNGATED else 3,
        experts=_experts(fields, num_layers),
        tied=_is_tied(fields, model_type),
        dtype_bytes=dtype_bytes,
        weight_bytes=weight_bytes,
        kv_bytes=_KV_DTYPE_BYTES[kv_dtype] or dtype_bytes,
        arithmetic=arithmetic,
        max_tokens=fields.count(*_MAX_TOKENS, default=4096),
        assumptions=tuple(_assumptions(fields, model_type, 4 * hidden)),
    )


class _Fields:
    """A config's fields, the text part's first where a model has several parts."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        inner = next(
            (c for n in ("text_config", "llm_config") if isinstance(c := config.get(n), Mapping)),
            {},
        )
        self._all: dict[str, Any] = {**config, **inner}

    def __contains__(self, name: str) -> bool:
        return self._all.get(name) is not None

    def optional(self, *names: str) -> Any:
        return next((self._all[n] for n in names if self._all.get(n) is not None), None)

    def count(self, *names: str, default: int | None = None) -> int:
        """A whole number of at least 1. Raises: ModelError."""
        found = next((n for n in names if self._all.get(n) is not None), None)
        if found is None:
            if default is not None:
                return default
            also = f" (or {', '.join(names[1:])})" if names[1:] else ""
            raise ModelError(f"config.json lacks {names[0]}{also}, a whole number of at least 1")
        value = self._all[found]
        if isinstance(value, Sequence) and not isinstance(value, str) and len(set(value)) == 1:
            value = value[0]  # one figure a layer, all alike
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"config.json: {found}={value!r} must be a whole number of at least 1")
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
    found = next((name for name in _STATE_FIELDS if name in fields), None)
    kinds = fields.optional("layer_types")
    if isinstance(kinds, Sequence) and any("attention" not in str(k).split("_") for k in kinds):
        found = "layer_types"
    if found or "linear_attention" in (kinds or ()):
        name = found or "layer_types"
        raise ModelError(
            f"config.json: {name}={str(fields.optional(name))[:60]!r}: layers that keep a state in "
            "place of keys and values (Mamba, linear attention) are not described yet"
        )


def _assumptions(fields: _Fields, model_type: str, intermediate: int) -> Iterator[str]:
    """What a reader of the plan should know of how the config was read."""
    if not model_type.startswith((*_GATED, *_UNGATED)):
        yield f"model_type={model_type or None!r} is not one that was checked: counted like Llama"
    if fields.optional(*_INTERMEDIATE) is None:
        yield f"{_INTERMEDIATE[0]} is missing: taken as 4 x {_HIDDEN[0]}, {intermediate:,}"
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
    """Gemma ties its embeddings without saying so, as transformers' default does."""
    tied = fields.optional("tie_word_embeddings")
    return bool(tied) if tied is not None else model_type.startswith(("gemma", "gpt2"))


def _experts(fields: _Fields, num_layers: int) -> Experts | None:
    if fields.optional(*_EXPERTS) in (None, 0, 1):
        return None
    count = fields.count(*_EXPERTS)
    per_token = fields.count("num_experts_per_tok", "num_experts_per_token", "moe_topk")
    if per_token > count:
        raise ModelError(
            f"config.json: num_experts_per_tok={per_token} must be at most the {count} experts"
        )
    width = fields.count("moe_intermediate_size", *_INTERMEDIATE)
    shared = fields.optional("shared_expert_intermediate_size")
    if shared is None:
        shared = width * int(fields.optional("n_shared_experts") or 0)
    every = fields.count("decoder_sparse_step", "moe_layer_freq", default=1)
    dense = {int(i) for i in fields.optional("mlp_only_layers") or ()}
    dense |= set(range(int(fields.optional("first_k_dense_replace") or 0)))
    mixed = [i for i in range(num_layers) if (i + 1) % every == 0 and i not in dense]
    return Experts(
        count=count,
        per_token=per_token,
        intermediate=width,
        shared_intermediate=int(shared),
        num_layers=len(mixed),
    )


def _quantised(fields: _Fields, dtype_bytes: int) -> tuple[float, Arithmetic]:
    """Bytes of a weight with its scales, and what products are taken in.

    Raises: ModelError for a method that is not described.
    """
    found = fields.optional("quantization_config", "compression_config")
    if found is None:
        return float(dtype_bytes), Arithmetic.WIDE
    if not isinstance(found, Mapping):
        raise ModelError(
            f"config.json: quantization_config={str(found)[:60]!r} must be an object with a "
            "quant_method"
        )
    method = str(found.get("quant_method") or "").lower()
    match method:
        case "gptq" | "awq" | "gptq_marlin" | "awq_marlin" | "auto-round":
            bits, group = found.get("bits", 4), found.get("group_size", 128)
            if bits not in (2, 3, 4, 8) or not isinstance(group, int) or group in (0, None):
                raise ModelError(
                    f"config.json: quantization_config has bits={bits!r} and group_size={group!r}; "
                    "bits must be 2, 3, 4 or 8, and group_size a whole number (-1 for none)"
                )
            return (bits + (0 if group < 0 else 20 / group)) / 8, Arithmetic.WIDE
        case "fp8" | "fbgemm_fp8":
            return 1.0, Arithmetic.FP8
        case "mxfp4":
            return 4.25 / 8, Arithmetic.WIDE
        case "bitsandbytes":
            return (4.5 / 8 if found.get("load_in_4bit") else 1.0), Arithmetic.WIDE
        case "compressed-tensors":
            return _compressed(found)
        case _:
            raise ModelError(
                f"config.json: quantization_config.quant_method={method!r} is not described; "
                "described are gptq, awq, fp8, mxfp4, bitsandbytes and compressed-tensors"
            )


def _compressed(found: Mapping[str, Any]) -> tuple[float, Arithmetic]:
    groups = found.get("config_groups")
    parts = list(groups.values()) if isinstance(groups, Mapping) else []
    weights = [_part(p, "weights") for p in parts]
    bits = {w.get("num_bits") for w in weights}
    (width,) = bits if len(bits) == 1 else (None,)
    if not isinstance(width, int) or width < 1:
        raise ModelError(
            "config.json: quantization_config.config_groups must have weights of one num_bits, "
            f"the same in all groups; got {str(groups)[:80]!r}"
        )
    inputs = [_part(p, "input_activations") for p in parts]
    if any(i.get("num_bits") != 8 for i in inputs):
        return width / 8, Arithmetic.WIDE
    is_float = all(i.get("type") == "float" for i in inputs)
    return width / 8, Arithmetic.FP8 if is_float else Arithmetic.INT8


def _part(group: Any, name: str) -> Mapping[str, Any]:
    part = group.get(name) if isinstance(group, Mapping) else None
    return part if isinstance(part, Mapping) else {}
