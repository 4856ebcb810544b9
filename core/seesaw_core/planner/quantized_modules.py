"""Finds the matrices that a quantised checkpoint keeps wide or stores in other bits.

Checkpoints name matrices by whole names, parts of names, prefixes, wildcards or regular
expressions. Each pattern is matched with the matrices that the model counts, layer by layer.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from seesaw_core.errors import ModelError
from seesaw_core.planner.models import Model

_MOST_RULES = 200_000  # a 405B model names about 900; some name every expert of every layer
_MOST_GENERAL = 200  # each is compared with every matrix of every layer
_LONGEST_RULE = 2000  # characters; names of modules have fewer than a hundred
_PREFIXES = ("model.", "language_model.model.", "model.language_model.", "transformer.", "")
_MOST_REPEATS = 3  # a match takes as many steps as the length of a name to this power
_NOT_COUNTED = re.compile(  # modules that stay wide in any case, or are not in the layers
    r"lm_head|embed|norm|vision|visual|audio|mtp|rotary|bias|merger|multi_modal|projector|"
    r"^(re:)?\.?\*?(model\.)?(wte|wpe|score|output)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Bytes per weight of the matrices whose names match ``pattern``, which has form ``form``."""

    pattern: str
    bytes_each: float
    form: str = "auto"  # or "regex", or "all but" for all names that do not contain it

    def matches(self, names: Iterable[str]) -> bool:
        """Return whether the rule is for the matrix with these names."""
        pattern = self.pattern
        if self.form == "all but":
            regex = _compiled(pattern)
            return not any(regex.search(name) for name in names)
        if self.form == "regex" or pattern.startswith("re:"):
            regex = _compiled(pattern.removeprefix("re:"))
            return any(regex.match(name) for name in names)
        if "*" in pattern:
            return any(fnmatchcase(n, p) for n in names for p in (pattern, f"{pattern}.*"))
        if any(c in pattern for c in "^$\\|+"):
            regex = _compiled(pattern)
            return any(regex.search(name) for name in names)
        part = f".{pattern.strip('.')}."
        return any(part in f".{name}." for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Mean bytes per weight of the layers, and the rules that match no matrix."""

    mean_bytes: float
    unmatched: tuple[str, ...] = ()


def mean_bytes(model: Model, usual: float, rules: Sequence[Rule]) -> Weights:
    """Average the bytes per weight: those of the first rule that matches, or else ``usual``.

    Raises: ModelError if there are too many rules, or one is not a regular expression.
    """
    if not rules:
        return Weights(mean_bytes=usual)
    general, by_layer = _sorted_by_layer(rules)
    total, whole, matched = 0.0, 0.0, set()
    for layer in range(model.shape.num_layers):
        candidates = [*by_layer.get(layer, ()), *general]
        for names, params in _matrices(model, layer):
            rule = next((rule for rule in candidates if rule.matches(names)), None)
            total += params * (usual if rule is None else rule.bytes_each)
            whole += params
            if rule is not None:
                matched.add(rule.pattern)
    idle = [r for r in general if r.pattern not in matched]
    idle += [r for of in by_layer.values() for r in of if r.pattern not in matched]
    unmatched = dict.fromkeys(r.pattern for r in idle if not _NOT_COUNTED.search(r.pattern))
    return Weights(mean_bytes=total / whole, unmatched=tuple(unmatched))


def _sorted_by_layer(rules: Sequence[Rule]) -> tuple[list[Rule], dict[int, list[Rule]]]:
    """Split rules into those for all layers and those for one. Raises: ModelError if too many."""
    if any(len(rule.pattern) > _LONGEST_RULE for rule in rules):
        raise ModelError(
            "config.json: quantization_config has a module name of more than "
            f"{_LONGEST_RULE:,} characters; shorten it"
        )
    general: dict[Rule, None] = {}
    by_layer: dict[int, dict[Rule, None]] = {}
    for rule in rules:
        layer = _layer_of(rule.pattern)
        if layer is None:
            general[rule] = None
        else:  # experts are alike
            alike = re.sub(r"\.experts\.\d+", ".experts.0", rule.pattern)
            by_layer.setdefault(layer, {})[replace(rule, pattern=alike)] = None
    if len(general) > _MOST_GENERAL or len(rules) > _MOST_RULES:
        raise ModelError(
            f"config.json: quantization_config names {len(rules):,} modules, {len(general):,} of "
            f"them for all layers; at most {_MOST_RULES:,} and {_MOST_GENERAL:,} are read"
        )
    return list(general), {layer: list(own) for layer, own in by_layer.items()}


def _matrices(model: Model, layer: int) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield a layer's matrices, each with its possible names and its number of parameters."""
    s, hidden = model.shape, model.hidden
    q, kv = hidden * s.num_heads * s.head_dim, hidden * s.num_kv_heads * s.head_dim
    yield _names(layer, "self_attn", "q_proj", "qkv_proj"), q
    yield _names(layer, "self_attn", "k_proj", "qkv_proj"), kv
    yield _names(layer, "self_attn", "v_proj", "qkv_proj"), kv
    yield _names(layer, "self_attn", "o_proj", "out_proj", "dense"), q
    share = model.experts.num_layers / s.num_layers if model.experts else 0.0
    dense = hidden * model.intermediate * (1 - share)
    gate, up = ("gate_proj", "gate_up_proj", "w1"), ("up_proj", "gate_up_proj", "w3")
    down = ("down_proj", "w2")
    rows = (gate, up, down) if model.mlp_matrices == 3 else (up, down)
    for row in rows:
        if dense:
            yield _names(layer, "mlp", *row), dense
        if model.experts:
            e = model.experts
            experts = tuple(
                name
                for block in ("mlp", "block_sparse_moe", "feed_forward")
                for name in _names(layer, f"{block}.experts.0", *row)
            )
            yield experts, share * e.count * hidden * e.intermediate
            shared = tuple(
                name
                for block in ("shared_expert", "shared_experts", "shared_mlp")
                for name in _names(layer, f"mlp.{block}", *row)
            )
            yield shared, share * hidden * e.shared_intermediate
    if model.experts:
        router = _names(layer, "mlp", "gate", "router") + _names(layer, "block_sparse_moe", "gate")
        yield router, share * hidden * model.experts.count


def _names(layer: int, block: str, *matrices: str) -> tuple[str, ...]:
    return tuple(f"{p}layers.{layer}.{block}.{m}" for m in matrices for p in _PREFIXES)


def _layer_of(pattern: str) -> int | None:
    """Return the layer of a plain name, with whose matrices alone it must be compared."""
    if pattern.startswith("re:") or any(c in pattern for c in "*^$\\|+([?"):
        return None
    match = re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,6})(?:\.|$)", pattern)
    return int(match[1]) if match else None


def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern that matches any module's name in little time.

    Raises: ModelError for a pattern that is wrong or could take for ever. Repeated groups and back
    references may, and each open repeat multiplies the steps by the length of the name.
    """
    bare = re.sub(r"\\[^0-9]|\[[^]]*\]", "x", pattern)
    num_repeats = len(re.findall(r"[*+]|\{\d*,\d*\}", bare))
    if re.search(r"\)[*+?{]|\\[0-9]|\(\?[^:]", bare) or num_repeats > _MOST_REPEATS:
        raise ModelError(
            f"quantization_config has a pattern that may take for ever to match: {pattern[:80]!r}; "
            f"give one without repeated groups and with at most {_MOST_REPEATS} repeats"
        )
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ModelError(
            f"config.json: quantization_config: {pattern[:60]!r} is not a regular expression: "
            f"{error}"
        ) from error
