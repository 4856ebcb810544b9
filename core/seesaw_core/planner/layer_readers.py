"""Reads the layers of models from their configs, one function for each family of architectures.

The field that a family alone has tells it from the others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from seesaw_core.errors import ModelError
from seesaw_core.planner.bounds import shown
from seesaw_core.planner.compressed import Widths, compressed_attention
from seesaw_core.planner.layer_windows import read_windows
from seesaw_core.planner.layers import Layer, Product
from seesaw_core.planner.mixers import (
    Heads,
    Index,
    Latents,
    MambaWidths,
    attention,
    delta_attention,
    gated_delta_net,
    latent_attention,
    mamba2,
    sparse,
)
from seesaw_core.planner.mlps import Experts, dense_mlp, experts_mlp
from seesaw_core.planner.model_fields import Fields, refuse_wrong_length

_Kind = TypeVar("_Kind")

_INTERMEDIATE = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
# Of dense layers, where intermediate_size is that of experts.
_DENSE_INTERMEDIATE = ("intermediate_size_mlp", "dense_intermediate_size")


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What all families read alike. ``usual_intermediate`` is the width of an MLP if not given."""

    num_layers: int
    hidden: int
    heads: Heads
    experts: Experts | None
    mlp_matrices: int
    usual_intermediate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A model's layers, its attention heads, and further heads that tensor ranks must divide."""

    layers: list[Layer]
    heads: Heads
    other_heads: tuple[int, ...] = ()


def read_layers(fields: Fields, basis: Basis) -> Read:
    """Return the layers of any model that is described. Raises: ModelError naming the field."""
    for name, read in FAMILIES.items():
        if name in fields and fields.optional(name) not in (None, 0, [], {}, ""):
            if name not in _READ_LAYER_TYPES:
                _by_name("layer_types", fields.strings("layer_types"), _PASSED_LAYER_TYPES)
            return read(fields, basis)
    return _usual(fields, basis)


def is_family(fields: Fields) -> bool:
    """Return whether a function of its own reads the model."""
    return any(
        name in fields and fields.optional(name) not in (None, 0, [], {}, "") for name in FAMILIES
    )


class _Mlps:
    """The MLPs of a model's layers. A dense width is asked for where a layer is dense."""

    def __init__(self, fields: Fields, basis: Basis) -> None:
        self._fields, self._basis = fields, basis
        fields.optional(*_DENSE_INTERMEDIATE, *_INTERMEDIATE)

    def of(self, layer: int) -> tuple[Product, ...]:
        experts = self._basis.experts
        if experts is not None and layer in experts.layers:
            return experts_mlp(self._basis.hidden, experts, self._basis.mlp_matrices)
        return self.dense()

    def dense(self) -> tuple[Product, ...]:
        names = next(((n,) for n in _DENSE_INTERMEDIATE if n in self._fields), _INTERMEDIATE)
        width = self._fields.count(*names, default=self._basis.usual_intermediate)
        return dense_mlp(self._basis.hidden, width, self._basis.mlp_matrices)


def _usual(fields: Fields, basis: Basis) -> Read:
    mlps = _Mlps(fields, basis)
    windows = read_windows(fields, basis.num_layers)
    layers = [
        Layer(mixer=attention(basis.hidden, basis.heads, window=window), mlp=mlps.of(n))
        for n, window in enumerate(windows)
    ]
    return Read(layers=layers, heads=basis.heads)


def _latent(fields: Fields, basis: Basis) -> Read:
    """DeepSeek-V2 to V3.2, Kimi K2, GLM-5."""
    widths = _latents(fields)
    indexed = _indexed(fields, basis.num_layers)
    mlps = _Mlps(fields, basis)
    layers = []
    for n, index in enumerate(indexed):
        most_read = None if index is None else fields.count("index_topk")
        mixer = latent_attention(basis.hidden, basis.heads.num, widths, most_read=most_read)
        if index:
            mixer = sparse(basis.hidden, mixer, _index(fields, widths.query_rank))
        layers.append(Layer(mixer=mixer, mlp=mlps.of(n)))
    return Read(layers=layers, heads=_latent_heads(basis, widths))


def _latents(fields: Fields) -> Latents:
    fields.optional("qk_head_dim", "head_dim")  # sums of the following
    return Latents(
        query_rank=fields.count("q_lora_rank", default=0, least=0),
        kv_rank=fields.count("kv_lora_rank"),
        nope_dim=fields.count("qk_nope_head_dim"),
        rope_dim=fields.count("qk_rope_head_dim"),
        value_dim=fields.count("v_head_dim"),
    )


def _latent_heads(basis: Basis, widths: Latents) -> Heads:
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


def _compressed(fields: Fields, basis: Basis) -> Read:
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
    mlps = _Mlps(fields, basis)
    layers = [
        Layer(mixer=compressed_attention(widths, ratio), mlp=mlps.of(n))
        for n, ratio in enumerate(ratios[: basis.num_layers])
    ]
    return Read(layers=layers, heads=basis.heads, other_heads=(widths.output_groups,))


def _delta_net(fields: Fields, basis: Basis) -> Read:
    """Qwen3-Next, Qwen3.5 and 3.6: three linear layers, then one with gated softmax attention."""
    key_heads = fields.count("linear_num_key_heads")
    value_heads = fields.count("linear_num_value_heads")
    linear = gated_delta_net(
        basis.hidden,
        key_heads=key_heads,
        value_heads=value_heads,
        dims=(fields.count("linear_key_head_dim"), fields.count("linear_value_head_dim")),
        kernel=fields.count("linear_conv_kernel_dim", default=4),
    )
    is_gated = fields.optional("attn_output_gate") is not False
    softmax = attention(basis.hidden, basis.heads, is_gated=is_gated)
    every = fields.count("full_attention_interval", default=4)
    named = fields.strings("layer_types") or [
        "linear_attention" if (n + 1) % every else "full_attention" for n in range(basis.num_layers)
    ]
    mixers = _by_name("layer_types", named, {"linear_attention": linear, "full_attention": softmax})
    refuse_wrong_length("layer_types", mixers, basis.num_layers)
    mlps = _Mlps(fields, basis)
    layers = [
        Layer(mixer=mixer, mlp=mlps.of(n)) for n, mixer in enumerate(mixers[: basis.num_layers])
    ]
    return Read(layers=layers, heads=basis.heads, other_heads=(key_heads, value_heads))


def _kimi_linear(fields: Fields, basis: Basis) -> Read:
    """Kimi K3: three layers of delta attention, then one of latent attention."""
    given = fields.optional("linear_attn_config")
    if not isinstance(given, dict):
        raise ModelError(f"config.json: linear_attn_config={shown(given)} must be an object")
    part = Fields(given)
    if part.optional("use_full_rank_gate") is not True:
        raise ModelError(
            "config.json: linear_attn_config.use_full_rank_gate is not true: gates of a low rank "
            "are not described; give a worker its layouts by hand"
        )
    heads = part.count("num_heads")
    linear = delta_attention(
        basis.hidden,
        heads=heads,
        dim=part.count("head_dim"),
        kernel=part.count("short_conv_kernel_size", default=4),
    )
    widths = _latents(fields)
    is_gated = bool(fields.optional("mla_use_output_gate"))
    softmax = latent_attention(basis.hidden, basis.heads.num, widths, is_gated=is_gated)
    numbers = set(part.counts("full_attn_layers"))  # counted from 1
    fields.optional("attn_res_block_size")
    mlps = _Mlps(fields, basis)
    layers = [
        Layer(mixer=softmax if n + 1 in numbers else linear, mlp=mlps.of(n))
        for n in range(basis.num_layers)
    ]
    return Read(layers=layers, heads=_latent_heads(basis, widths), other_heads=(heads,))


def _nemotron_h(fields: Fields, basis: Basis) -> Read:
    """Nemotron-H and Nemotron 3: each layer is Mamba-2, attention or an MLP alone."""
    named = fields.strings("layers_block_type")
    letters = fields.optional("hybrid_override_pattern")
    if not named and isinstance(letters, str):
        known = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
        named = [known.get(letter, letter) for letter in letters]
    in_16_bits = fields.optional("mamba_ssm_cache_dtype") in ("bfloat16", "float16")
    widths = MambaWidths(
        heads=fields.count("mamba_num_heads"),
        dim=fields.count("mamba_head_dim"),
        state=fields.count("ssm_state_size"),
        groups=fields.count("n_groups"),
        kernel=fields.count("conv_kernel", default=4),
        element_bytes=2 if in_16_bits else 4,
    )
    matrices = 2  # up, a squared ReLU, and down
    kinds = {
        "mamba": Layer(mixer=mamba2(basis.hidden, widths)),
        "attention": Layer(mixer=attention(basis.hidden, basis.heads)),
    }
    if "mlp" in named:
        width = fields.count("intermediate_size")
        kinds["mlp"] = Layer(mlp=dense_mlp(basis.hidden, width, matrices))
    if "moe" in named:
        if basis.experts is None:
            raise ModelError("config.json has layers with experts and lacks n_routed_experts")
        kinds["moe"] = Layer(mlp=experts_mlp(basis.hidden, basis.experts, matrices))
    layers = _by_name("layers_block_type", named, kinds)
    refuse_wrong_length("layers_block_type", layers, basis.num_layers)
    return Read(layers=layers[: basis.num_layers], heads=basis.heads, other_heads=(widths.heads,))


def _gemma4(fields: Fields, basis: Basis) -> Read:
    """Gemma 4: layers with a window and layers with wider heads, where the key is the value too."""
    usual = basis.heads
    wide = fields.count("global_head_dim")
    is_shared = bool(fields.optional("attention_k_eq_v"))
    num_kv = fields.count("num_global_key_value_heads", default=usual.num_kv)
    whole = Heads(
        num=usual.num, num_kv=num_kv if is_shared else usual.num_kv, dim=wide, value_dim=wide
    )
    has_experts = bool(fields.optional("enable_moe_block"))
    fields.optional("use_double_wide_mlp", "vocab_size_per_layer_input")
    mlps = _Mlps(fields, replace(basis, experts=None))
    mlp = mlps.dense()
    if has_experts and basis.experts is not None:  # beside the dense MLP
        mlp += experts_mlp(basis.hidden, basis.experts, basis.mlp_matrices, beside_dense=True)
    layers = []
    for window in read_windows(fields, basis.num_layers):
        mixer = attention(basis.hidden, usual, window=window)
        if window is None:
            mixer = attention(basis.hidden, whole, key_is_value=is_shared)
        layers.append(Layer(mixer=mixer, mlp=mlp))
    return Read(layers=layers, heads=usual)


def _mimo_v2(fields: Fields, basis: Basis) -> Read:
    """MiMo-V2: values narrower than keys, and layers with a window that have more KV heads."""
    pattern = fields.counts("hybrid_layer_pattern")
    refuse_wrong_length("hybrid_layer_pattern", pattern, basis.num_layers)
    usual = replace(basis.heads, value_dim=fields.count("v_head_dim", default=basis.heads.dim))
    windowed = Heads(
        num=fields.count("swa_num_attention_heads", default=usual.num),
        num_kv=fields.count("swa_num_key_value_heads", default=usual.num_kv),
        dim=fields.count("swa_head_dim", default=usual.dim),
        value_dim=fields.count("swa_v_head_dim", default=usual.value_dim),
    )
    window = fields.count("sliding_window", "sliding_window_size")
    mlps = _Mlps(fields, basis)
    layers = []
    for n, has_window in enumerate(pattern[: basis.num_layers]):
        mixer = attention(
            basis.hidden,
            windowed if has_window else usual,
            window=window if has_window else None,
        )
        layers.append(Layer(mixer=mixer, mlp=mlps.of(n)))
    return Read(layers=layers, heads=usual)


def _minimax_m3(fields: Fields, basis: Basis) -> Read:
    """MiniMax-M3: layers that read the blocks of keys which an index chooses."""
    given = fields.optional("sparse_attention_config")
    if not isinstance(given, dict):
        raise ModelError(f"config.json: sparse_attention_config={shown(given)} must be an object")
    part = Fields(given)
    softmax = attention(basis.hidden, basis.heads)
    index = Index(
        heads=part.count("sparse_num_index_heads"),
        dim=part.count("sparse_index_dim"),
        query_inputs=basis.hidden,
        most_read=part.count("sparse_topk_blocks") * part.count("sparse_block_size"),
        has_weights=False,
        is_bytes=False,
    )
    chosen = sparse(basis.hidden, softmax, index)
    switches = part.counts("sparse_attention_freq") or [1] * basis.num_layers
    refuse_wrong_length("sparse_attention_freq", switches, basis.num_layers)
    mlps = _Mlps(fields, basis)
    layers = [
        Layer(mixer=chosen if is_on else softmax, mlp=mlps.of(n))
        for n, is_on in enumerate(switches[: basis.num_layers])
    ]
    return Read(layers=layers, heads=basis.heads)


def _searched(fields: Fields, basis: Basis) -> Read:
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


def _by_name(field: str, names: Sequence[str], kinds: Mapping[str, _Kind]) -> list[_Kind]:
    """Look up each name. Raises: ModelError for one that is not known."""
    unknown = next((name for name in names if name not in kinds), None)
    if unknown is not None:
        raise ModelError(
            f"config.json: {field}={unknown[:40]!r} is not described for this model; described are "
            f"{', '.join(kinds)}"
        )
    return [kinds[name] for name in names]


# Families that go by ``layer_types``, and what others may name there without being misread.
_READ_LAYER_TYPES = {"linear_num_value_heads", "global_head_dim"}
_PASSED_LAYER_TYPES = {"full_attention": None, "deepseek_sparse_attention": None}

# By the field that only this family has. The first that a config has counts.
FAMILIES: dict[str, Callable[[Fields, Basis], Read]] = {
    "block_configs": _searched,
    "linear_attn_config": _kimi_linear,
    "compress_ratios": _compressed,
    "kv_lora_rank": _latent,
    "linear_num_value_heads": _delta_net,
    "mamba_num_heads": _nemotron_h,
    "global_head_dim": _gemma4,
    "hybrid_layer_pattern": _mimo_v2,
    "sparse_attention_config": _minimax_m3,
}
