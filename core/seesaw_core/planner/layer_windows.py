"""Reads which layers of a model see all past tokens, and which only the last ones."""

from seesaw_core.errors import ModelError
from seesaw_core.planner.model_fields import Fields, refuse_wrong_length

_WINDOW = ("sliding_window", "sliding_window_size")
_CHUNK = "attention_chunk_size"  # of Llama 4: a token sees its own chunk
_ALL_PAST = ("full_attention", "attention", "global_attention", "deepseek_sparse_attention")
# Types whose layers alternate, unless ``layer_types`` lists them: every how many layers one sees
# all past tokens, by transformers' defaults.
_EVERY = {"gemma2": 2, "gpt_oss": 2, "cohere2": 4, "olmo3": 4, "gemma3": 6}
_ALL_WINDOWED = {"mistral", "ministral"}


def read_windows(fields: Fields, num_layers: int) -> list[int | None]:
    """Return each layer's window in tokens, None where a layer sees all past tokens.

    Raises: ModelError naming a field that is missing or not understood.
    """
    named = fields.strings("layer_types")
    if named:
        refuse_wrong_length("layer_types", named, num_layers)
        return [_window_of(kind, fields) for kind in named[:num_layers]]
    if _CHUNK in fields and fields.model_type == "llama4":
        return _chunks(fields, num_layers)
    if fields.optional(*_WINDOW) is None or fields.optional("use_sliding_window") is False:
        return [None] * num_layers
    if fields.model_type in _ALL_WINDOWED:
        return [fields.count(*_WINDOW)] * num_layers
    if fields.model_type in _EVERY:
        window = fields.count(*_WINDOW)
        every = fields.count("sliding_window_pattern", default=_EVERY[fields.model_type])
        return [None if (n + 1) % every == 0 else window for n in range(num_layers)]
    return [None] * num_layers


def is_window_left_out(fields: Fields, windows: list[int | None]) -> bool:
    """Return whether a config has a window and does not say which layers it is for."""
    window = fields.optional(*_WINDOW)
    is_used = fields.optional("use_sliding_window") is not False
    named = bool(fields.strings("layer_types"))
    return isinstance(window, int) and is_used and not named and not any(windows)


def _window_of(kind: str, fields: Fields) -> int | None:
    if kind == "sliding_attention":
        return None if fields.optional("use_sliding_window") is False else fields.count(*_WINDOW)
    if kind == "chunked_attention":
        return fields.count(_CHUNK)
    if kind in _ALL_PAST:
        return None
    raise ModelError(
        f"config.json: layer_types={kind[:40]!r} is not described; described are full_attention, "
        "sliding_attention and chunked_attention"
    )


def _chunks(fields: Fields, num_layers: int) -> list[int | None]:
    """Return Llama 4's chunks: all layers with rotary positions see their own chunk alone."""
    chunk = fields.count(_CHUNK)
    every = fields.count("no_rope_layer_interval", default=4)
    rotary = fields.counts("no_rope_layers") or [
        int((n + 1) % every != 0) for n in range(num_layers)
    ]
    refuse_wrong_length("no_rope_layers", rotary, num_layers)
    return [chunk if each else None for each in rotary[:num_layers]]
