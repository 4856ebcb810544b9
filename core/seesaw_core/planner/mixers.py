"""Builds the parts of layers that mix tokens: attention of several kinds, and recurrent states.

Widths are those of vLLM 0.32's modules.
"""

from dataclasses import dataclass, replace

from seesaw_core.planner.layers import Cache, Mixer, Mixing, Product, Split

# An index of keys is kept in 8 bits, with a scale of 4 bytes for each key of at most 128 elements.
_INDEX_SCALE_BYTES = 4
_STATE_BYTES = 4  # recurrent states are kept in float32, unless a config says otherwise
_CONV_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """The heads of softmax attention. ``value_dim`` is the width of a head's value."""

    num: int
    num_kv: int
    dim: int
    value_dim: int

    @property
    def pair_flops(self) -> float:
        """Work of a (query, key) pair: a product of each query head with its key and value."""
        return 2.0 * self.num * (self.dim + self.value_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """A small attention that chooses which keys a token sees. ``query_inputs`` feeds its queries.

    A layer that shares the choice of an earlier one has no index of its own.
    """

    heads: int
    dim: int
    query_inputs: int
    most_read: int
    has_weights: bool = True
    is_bytes: bool = True


def attention(
    hidden: int,
    heads: Heads,
    *,
    window: int | None = None,
    is_gated: bool = False,
    key_is_value: bool = False,
) -> Mixer:
    """Softmax attention over all keys, or over those of the last ``window`` tokens.

    A gate has as many outputs as the queries. Where the key is the value as well, one matrix makes
    both, but both are kept.
    """
    queries = heads.num * heads.dim * (2 if is_gated else 1)
    products = [
        _matrix(hidden, queries, "q_proj", fused="qkv_proj"),
        _matrix(hidden, heads.num_kv * heads.dim, "k_proj", fused="qkv_proj"),
        _matrix(heads.num * heads.value_dim, hidden, "o_proj", split=Split.ROWS),
    ]
    if not key_is_value:
        value = _matrix(hidden, heads.num_kv * heads.value_dim, "v_proj", fused="qkv_proj")
        products.insert(2, value)
    cache = Cache(
        elements=heads.num_kv * (heads.dim + heads.value_dim),
        heads=heads.num_kv,
        pair_flops=heads.pair_flops,
        decode_flops=heads.pair_flops,
        window=window,
    )
    mixing = Mixing.FULL if window is None else Mixing.WINDOW
    return Mixer(mixing=mixing, products=tuple(products), heads=heads.num, caches=(cache,))


def sparse(hidden: int, mixer: Mixer, index: Index) -> Mixer:
    """Attention of which each token reads the keys that an index chooses."""
    products = [
        _matrix(
            index.query_inputs,
            index.heads * index.dim,
            *("indexer.wq_b", "indexer.q_proj", "index_q_proj"),
            split=Split.NONE,
        ),
        _matrix(
            hidden, index.dim, "indexer.wk", "indexer.k_proj", "index_k_proj", split=Split.NONE
        ),
    ]
    if index.has_weights:
        names = ("indexer.weights_proj", "indexers_proj")
        products.append(_matrix(hidden, index.heads, *names, split=Split.NONE))
    flops = 2.0 * index.heads * index.dim
    keys = Cache(
        elements=index.dim + (_INDEX_SCALE_BYTES if index.is_bytes else 0),
        heads=1,
        pair_flops=flops,
        decode_flops=flops,
        element_bytes=1.0 if index.is_bytes else 2.0,
    )
    read_less = tuple(replace(cache, most_read=index.most_read) for cache in mixer.caches)
    return replace(
        mixer,
        mixing=Mixing.LATENT if mixer.mixing is Mixing.LATENT else Mixing.SPARSE,
        products=(*mixer.products, *products),
        caches=(*read_less, keys),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Latents:
    """The widths of latent attention. ``query_rank`` is 0 where queries are not compressed."""

    query_rank: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int


def latent_attention(
    hidden: int, heads: int, w: Latents, *, is_gated: bool = False, most_read: int | None = None
) -> Mixer:
    """Attention over compressed keys and values, of which each rank keeps a copy.

    Source: DeepSeek-V2 (arXiv 2405.04434). vLLM prefills with the keys and values of each head, and
    decodes in the compressed space.
    """
    key = w.nope_dim + w.rope_dim
    compressed = w.kv_rank + w.rope_dim
    products = [
        _matrix(hidden, compressed, "kv_a_proj_with_mqa", fused="fused_a", split=Split.NONE),
        _matrix(w.kv_rank, heads * (w.nope_dim + w.value_dim), "kv_b_proj"),
        _matrix(heads * w.value_dim, hidden, "o_proj", split=Split.ROWS),
    ]
    if w.query_rank:
        first = _matrix(hidden, w.query_rank, "q_a_proj", fused="fused_a", split=Split.NONE)
        products[:0] = [first, _matrix(w.query_rank, heads * key, "q_b_proj")]
    else:
        products.insert(0, _matrix(hidden, heads * key, "q_proj"))
    if is_gated:
        products.append(_matrix(hidden, heads * w.value_dim, "g_proj"))
    cache = Cache(
        elements=compressed,
        heads=1,
        pair_flops=2.0 * heads * (key + w.value_dim),
        decode_flops=2.0 * heads * (compressed + w.kv_rank),
        most_read=most_read,
    )
    return Mixer(mixing=Mixing.LATENT, products=tuple(products), heads=heads, caches=(cache,))


def gated_delta_net(
    hidden: int, *, key_heads: int, value_heads: int, dims: tuple[int, int], kernel: int
) -> Mixer:
    """Linear attention with a state of a key by a value for each value head (Qwen3-Next).

    dims: widths of a key and of a value.
    """
    key_dim, value_dim = dims
    keys, values = key_heads * key_dim, value_heads * value_dim
    products = (
        _linear(hidden, 2 * keys + values, "in_proj_qkv", fused="in_proj_qkvz"),
        _linear(hidden, values, "in_proj_z", fused="in_proj_qkvz"),
        _linear(hidden, value_heads, "in_proj_b", fused="in_proj_ba"),
        _linear(hidden, value_heads, "in_proj_a", fused="in_proj_ba"),
        _linear(kernel, 2 * keys + values, "conv1d"),
        _linear(values, hidden, "out_proj", split=Split.ROWS),
    )
    state = value_heads * key_dim * value_dim
    return Mixer(
        mixing=Mixing.STATE,
        products=products,
        heads=key_heads,
        state_bytes=state * _STATE_BYTES + (2 * keys + values) * (kernel - 1) * _CONV_BYTES,
        state_flops=6.0 * state,
    )


def delta_attention(hidden: int, *, heads: int, dim: int, kernel: int) -> Mixer:
    """Kimi's delta attention with a full-rank gate; its state is a key by a value for each head."""
    wide = heads * dim
    products = (
        *(_matrix(hidden, wide, name, fused="in_proj") for name in ("q_proj", "k_proj", "v_proj")),
        _matrix(hidden, wide, "g_proj", fused="in_proj"),
        _matrix(hidden, dim, "f_a_proj", fused="in_proj", split=Split.NONE),
        _matrix(hidden, heads, "b_proj", fused="in_proj"),
        _matrix(dim, wide, "f_b_proj"),
        _matrix(kernel, 3 * wide, "q_conv1d", "k_conv1d", "v_conv1d"),
        _matrix(wide, hidden, "o_proj", split=Split.ROWS),
    )
    state = heads * dim * dim
    return Mixer(
        mixing=Mixing.STATE,
        products=products,
        heads=heads,
        state_bytes=state * _STATE_BYTES + 3 * wide * (kernel - 1) * _CONV_BYTES,
        state_flops=6.0 * state,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MambaWidths:
    """Widths of a Mamba-2 layer. ``element_bytes`` are those of its state."""

    heads: int
    dim: int
    state: int
    groups: int
    kernel: int
    element_bytes: int = _STATE_BYTES


def mamba2(hidden: int, w: MambaWidths) -> Mixer:
    """A Mamba-2 layer: a state of ``state`` by ``dim`` elements for each head."""
    inner = w.heads * w.dim
    conv = inner + 2 * w.groups * w.state
    products = (
        _linear(hidden, inner + conv + w.heads, "in_proj"),
        _linear(w.kernel, conv, "conv1d"),
        _linear(inner, hidden, "out_proj", split=Split.ROWS),
    )
    return Mixer(
        mixing=Mixing.STATE,
        products=products,
        heads=w.heads,
        state_bytes=inner * w.state * w.element_bytes + conv * (w.kernel - 1) * _CONV_BYTES,
        state_flops=6.0 * inner * w.state,
    )


def _matrix(
    inputs: int, outputs: int, *names: str, split: Split = Split.COLUMNS, fused: str = ""
) -> Product:
    blocks = ("self_attn", "mixer", "attn")
    merged = (fused,) if fused else ()
    full = tuple(f"{block}.{name}" for name in (*names, *merged) for block in blocks)
    if names[0] == "o_proj":
        full += ("self_attn.out_proj", "self_attn.dense")
    return Product(names=full, inputs=inputs, outputs=outputs, split=split, fused=fused)


def _linear(
    inputs: int, outputs: int, name: str, *, split: Split = Split.COLUMNS, fused: str = ""
) -> Product:
    merged = (fused,) if fused else ()
    full = tuple(
        f"{block}.{each}" for each in (name, *merged) for block in ("linear_attn", "mixer")
    )
    return Product(names=full, inputs=inputs, outputs=outputs, split=split, fused=fused)
