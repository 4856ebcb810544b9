"""Layers of several kinds in one model: with state, with windows, with sparse attention."""

from dataclasses import replace

from seesaw_core.errors import ModelError
from seesaw_core.planner.bounds import shown
from seesaw_core.planner.layer_readers.basis import Basis, Mlps, Read, by_name
from seesaw_core.planner.layer_readers.latent import latent_heads, read_latents
from seesaw_core.planner.layer_windows import read_windows
from seesaw_core.planner.layers import Layer
from seesaw_core.planner.mixers import (
    Heads,
    Index,
    MambaWidths,
    attention,
    delta_attention,
    gated_delta_net,
    latent_attention,
    mamba2,
    sparse,
)
from seesaw_core.planner.mlps import dense_mlp, experts_mlp
from seesaw_core.planner.model_fields import Fields, refuse_wrong_length


def delta_net(fields: Fields, basis: Basis) -> Read:
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
    mixers = by_name("layer_types", named, {"linear_attention": linear, "full_attention": softmax})
    refuse_wrong_length("layer_types", mixers, basis.num_layers)
    mlps = Mlps(fields, basis)
    layers = [
        Layer(mixer=mixer, mlp=mlps.of(n)) for n, mixer in enumerate(mixers[: basis.num_layers])
    ]
    return Read(layers=layers, heads=basis.heads, other_heads=(key_heads, value_heads))


def kimi_linear(fields: Fields, basis: Basis) -> Read:
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
    widths = read_latents(fields)
    is_gated = bool(fields.optional("mla_use_output_gate"))
    softmax = latent_attention(basis.hidden, basis.heads.num, widths, is_gated=is_gated)
    numbers = set(part.counts("full_attn_layers"))  # counted from 1
    fields.optional("attn_res_block_size")
    mlps = Mlps(fields, basis)
    layers = [
        Layer(mixer=softmax if n + 1 in numbers else linear, mlp=mlps.of(n))
        for n in range(basis.num_layers)
    ]
    return Read(layers=layers, heads=latent_heads(basis, widths), other_heads=(heads,))


def nemotron_h(fields: Fields, basis: Basis) -> Read:
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
    layers = by_name("layers_block_type", named, kinds)
    refuse_wrong_length("layers_block_type", layers, basis.num_layers)
    return Read(layers=layers[: basis.num_layers], heads=basis.heads, other_heads=(widths.heads,))


def gemma4(fields: Fields, basis: Basis) -> Read:
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
    mlps = Mlps(fields, replace(basis, experts=None))
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


def mimo_v2(fields: Fields, basis: Basis) -> Read:
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
    mlps = Mlps(fields, basis)
    layers = []
    for n, has_window in enumerate(pattern[: basis.num_layers]):
        mixer = attention(
            basis.hidden,
            windowed if has_window else usual,
            window=window if has_window else None,
        )
        layers.append(Layer(mixer=mixer, mlp=mlps.of(n)))
    return Read(layers=layers, heads=usual)


def minimax_m3(fields: Fields, basis: Basis) -> Read:
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
    mlps = Mlps(fields, basis)
    layers = [
        Layer(mixer=chosen if is_on else softmax, mlp=mlps.of(n))
        for n, is_on in enumerate(switches[: basis.num_layers])
    ]
    return Read(layers=layers, heads=basis.heads)
