"""The attention of DeepSeek-V4: a window of keys, and compressed keys of what is older.

Widths are those of vLLM 0.32's modules; transformers' own modules count the same parameters.
"""

from dataclasses import dataclass

from seesaw_core.planner.layers import Cache, Mixer, Mixing, Product, Split

# A key that is its value as well: 448 elements in 8 bits, 64 in 16 bits, and 8 scales.
_ENTRY_BYTES = 584
_INDEX_ENTRY_BYTES = 132  # 128 elements in 8 bits and a scale
_INDEXED_RATIO = 4  # layers with this ratio choose what they read; others read all


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Widths of a layer. ``streams`` are the parallel residuals of its hyper-connections."""

    hidden: int
    heads: int
    dim: int
    query_rank: int
    output_rank: int
    output_groups: int
    index_heads: int
    index_dim: int
    index_read: int
    window: int
    streams: int


def compressed_attention(w: Widths, ratio: int) -> Mixer:
    """Attention over the last keys and, unless ``ratio`` is 0, one for each ``ratio`` tokens."""
    grouped = w.output_groups * w.output_rank
    mixing = w.streams * (w.streams + 2)
    products = [
        _whole(w.hidden, w.query_rank, "q_a_proj", "wq_a"),
        _matrix(w.query_rank, w.heads * w.dim, "q_b_proj", "wq_b"),
        _whole(w.hidden, w.dim, "kv_proj", "wkv"),
        _matrix(w.heads * w.dim // w.output_groups, grouped, "o_a_proj", "wo_a"),
        _matrix(grouped, w.hidden, "o_b_proj", "wo_b", split=Split.ROWS),
        _whole(w.streams * w.hidden, mixing, "attn_hc", "hc_attn_fn"),
        _whole(w.streams * w.hidden, mixing, "ffn_hc", "hc_ffn_fn"),
    ]
    caches = [_cache(w, window=w.window)]
    if ratio:
        is_indexed = ratio == _INDEXED_RATIO
        width = w.dim * (2 if is_indexed else 1)
        products += [
            _whole(w.hidden, width, "compressor.kv_proj", "compressor.wkv"),
            _whole(w.hidden, width, "compressor.gate_proj", "compressor.wgate"),
        ]
        caches.append(_cache(w, ratio=ratio, most_read=w.index_read if is_indexed else None))
        if is_indexed:
            products += _index_products(w)
            flops = 2.0 * w.index_heads * w.index_dim
            caches.append(
                Cache(
                    elements=_INDEX_ENTRY_BYTES,
                    heads=1,
                    pair_flops=flops,
                    decode_flops=flops,
                    ratio=ratio,
                    element_bytes=1.0,
                )
            )
    return Mixer(
        mixing=Mixing.LATENT, products=tuple(products), heads=w.heads, caches=tuple(caches)
    )


def _index_products(w: Widths) -> list[Product]:
    return [
        _whole(w.hidden, 2 * w.index_dim, "indexer.kv_proj", "indexer.compressor.wkv"),
        _whole(w.hidden, 2 * w.index_dim, "indexer.gate_proj", "indexer.compressor.wgate"),
        _whole(w.query_rank, w.index_heads * w.index_dim, "indexer.q_b_proj", "indexer.wq_b"),
        _whole(w.hidden, w.index_heads, "indexer.weights_proj"),
    ]


def _cache(
    w: Widths, *, ratio: int = 1, window: int | None = None, most_read: int | None = None
) -> Cache:
    flops = 4.0 * w.heads * w.dim
    return Cache(
        elements=_ENTRY_BYTES,
        heads=1,
        pair_flops=flops,
        decode_flops=flops,
        ratio=ratio,
        window=window,
        most_read=most_read,
        element_bytes=1.0,
    )


def _matrix(inputs: int, outputs: int, *names: str, split: Split = Split.COLUMNS) -> Product:
    full = tuple(f"{block}.{name}" for name in names for block in ("self_attn", "attn"))
    return Product(names=full, inputs=inputs, outputs=outputs, split=split)


def _whole(inputs: int, outputs: int, *names: str) -> Product:
    return _matrix(inputs, outputs, *names, split=Split.NONE)
