"""The fields of a ``config.json``, the text part's first, with a record of which were read.

A config has more fields than any reader knows. :mod:`seesaw_core.planner.model_refusals` judges
the unread ones, so that no field that sizes a model is ignored silently.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from seesaw_core.errors import ModelError
from seesaw_core.planner.bounds import most, shown

# Names of the part that holds the language model's config.
_TEXT_PARTS = ("thinker_config", "text_config", "llm_config", "language_config")
_DEEPEST = 4  # levels; known configs have two (``thinker_config``, then ``text_config``)

# A name with one of these words may be that of a size.
_SIZING = re.compile(
    r"(^|_)(hidden|inner|n?groups?|dims?|d|size|sizes|width|depth|heads?|layers?|blocks?|experts?|"
    r"ranks?|inter|sharing|ngram|intermediate|ffn|mlp|moe|kv|kvs|qk|q|v|channels|shared?|residual|ratio|pattern|"
    r"freq|frequency|interval|every|mtp|nextn|num|n|cla|altup|laurel|engram|latent)(_|$)"
)
# ... unless one of these words shows otherwise: positions, training, generation, numerics.
_NOT_SIZING = re.compile(
    r"rope|rotary|position|dropout|drop$|pdrop|eps$|epsilon|norm|init|loss|coef|token|_ids?$|bias|"
    r"scal|softmax|cap$|capping|beam|label|sequences|output_|^use_|jitter|capacity|temperature|"
    r"(?<!ngram_)vocab|window|chunk|version|dtype|return_|no_repeat_ngram|groups_beam|pretraining|precision|topk_group|"
    r"^n_group$|topk_method|routing|router_aux|router_z|seq|max_length|min_length|act$|activation|"
    r"attn_implementation|_fp32|_fp16|^fp32|recompute|layerdrop|alibi|mask|multiplier"
)
# Fields of the checked model types that size nothing, or that size what vLLM does not load.
_IRRELEVANT = {
    *("max_window_layers", "attention_chunk_size", "no_rope_layers", "no_rope_layer_interval"),
    *("chunk_size_feed_forward", "num_ln_in_parallel_attn", "do_layer_norm_before", "layer_types"),
    *("query_pre_attn_scalar", "clip_qkv", "moe_layers", "attn_config", "num_logits_to_keep"),
    *("tie_word_embeddings", "model_type", "architectures", "auto_map", "norm_topk_prob"),
    *("quantization_config", "compression_config", "pruned_heads", "attn_type_list", "id2label"),
    *("label2id", "task_specific_params", "num_hidden_layers", "sliding_window_pattern"),
    *("num_return_sequences", "block_size", "ep_size", "moe_shared_expert_overlap"),
    *("time_step_rank", "expand", "index_topk_freq", "index_share_for_mtp_iteration"),
    *("projector_hidden_size", "index_skip_topk_offset", "swa_rope_theta"),
}


_OTHER_PART = re.compile(
    r"^(?!.*(_token|_id$|_ids$|_type$|dtype|_start|_end|_path|prompt|placeholder|_pinpoints|_mode$|"
    r"_act$|_strategy$))"
    r".*(vision|visual|(^|_)vit(_|$)|img_|image_|audio|speech|video|perceiver|qformer|projector|"
    r"encoder_config|tower|talker)"
)


class Fields:
    """A config's fields. ``left_out`` has defaults for fields that a model type leaves out."""

    def __init__(
        self, config: Mapping[str, Any], left_out: Mapping[str, Mapping[str, int]] | None = None
    ) -> None:
        given = {n: value for n, value in flatten(config).items() if value is not None}
        self.model_type = str(given.get("model_type") or "").removesuffix("_text")
        self._all: dict[str, Any] = {**(left_out or {}).get(self.model_type, {}), **given}
        self._read: set[str] = set()

    def __contains__(self, name: str) -> bool:
        self._read.add(name)
        return name in self._all

    def optional(self, *names: str) -> Any:
        self._read.update(names)
        return next((self._all[n] for n in names if n in self._all), None)

    def strings(self, name: str) -> list[str]:
        """Return a list of strings, empty if the field is missing. Raises: ModelError."""
        return [str(value) for value in self.list_of(name)]

    def counts(self, name: str) -> list[int]:
        """Return a list of whole numbers, empty if the field is missing. Raises: ModelError."""
        values = self.list_of(name)
        if not all(isinstance(value, int) for value in values):
            raise ModelError(f"config.json: {name}={shown(values)} must be a list of whole numbers")
        return values

    def list_of(self, name: str) -> list[Any]:
        value = self.optional(name) or []
        if not isinstance(value, list | tuple):
            raise ModelError(f"config.json: {name}={shown(value)} must be a list")
        return list(value)

    def count(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """Return a whole number of at least ``least``. Raises: ModelError."""
        self._read.update(names)
        name = next((n for n in names if n in self._all), None)
        if name is None:
            if default is not None:
                return default
            also = f" (or {', '.join(names[1:])})" if names[1:] else ""
            raise ModelError(f"config.json lacks {names[0]}{also}, a whole number of at least 1")
        value, limit = self._all[name], most(names)
        if isinstance(value, Sequence) and not isinstance(value, str):
            if any(each != value[0] for each in value):
                raise ModelError(
                    f"config.json: {name}={_short(value)} differs from layer to layer, which is "
                    "not described yet; give a worker its layouts by hand"
                )
            value = value[0] if value else None  # one figure per layer, all equal
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= limit:
            raise ModelError(
                f"config.json: {name}={shown(value)} must be a whole number from {least} to "
                f"{limit:,}"
            )
        return value

    def other_parts(self) -> Iterator[str]:
        """Yield the names of parts beside the text model, such as vision and audio."""
        for name, value in self._all.items():
            if _OTHER_PART.search(name) and isinstance(value, dict | str) and value:
                self._read.add(name)
                yield name

    def unread(self) -> Iterator[tuple[str, str]]:
        """Yield the unread fields that may be sizes, with their values."""
        for name, value in self._all.items():
            if name in self._read or name in _IRRELEVANT or not _says_something(name, value):
                continue
            word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
            if _SIZING.search(word) and not _NOT_SIZING.search(word):
                yield name, _short(value)


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the fields of a config's text part, however deep it is nested, over its own fields."""
    merged = dict(config)
    part: Mapping[str, Any] = config
    for _ in range(_DEEPEST):
        inner = next((c for n in _TEXT_PARTS if isinstance(c := part.get(n), Mapping)), None)
        if inner is None:
            break
        merged.update({name: value for name, value in inner.items() if value is not None})
        part = inner
    attention = merged.get("attn_config")  # of MPT
    if isinstance(attention, Mapping) and attention.get("kv_n_heads") is not None:
        merged.setdefault("num_key_value_heads", attention["kv_n_heads"])
    return {n: value for n, value in merged.items() if n not in _TEXT_PARTS}


def refuse_wrong_length(name: str, values: Sequence[Any], num_layers: int) -> None:
    """Raises: ModelError unless a field that has a value for each layer has enough."""
    if len(values) < num_layers:
        raise ModelError(
            f"config.json: {name} has {len(values)} values; give one for each of the {num_layers} "
            "layers"
        )


def _says_something(name: str, value: Any) -> bool:
    """Whether it may change a count: figures, lists of figures and switches that are on."""
    match value:
        case bool():
            return value
        case int() | float():
            return value not in (0, -1)
        case list() | tuple():
            return bool(value) and all(isinstance(v, int | float) for v in value) and any(value)
        case dict():
            return name.endswith(("_config", "_cfg"))
        case _:
            return False


def _short(value: Any) -> str:
    return shown(value)
