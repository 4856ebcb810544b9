"""Which of a layer's matrices a quantised checkpoint leaves wide, or stores in other bits.

Checkpoints name them in many ways: whole names, parts of names, prefixes, wildcards and regular
expressions. Each is matched with the matrices that are counted, layer by layer.
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
_NOT_COUNTED = re.compile(  # wide anyway, or no matrices of the layers
    r"lm_head|embed|norm|vision|visual|audio|mtp|rotary|bias|merger|multi_modal|projector|"
    r"^(re:)?\.?\*?(model\.)?(wte|wpe|score|output)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """``bytes_each`` holds for the matrices whose name has ``pattern`` in the form ``form``."""

    pattern: str
    bytes_each: float
    form: str = "auto"  # or "regex", or "all but" what the pattern is found in

    def matches(self, names: Iterable[str]) -> bool:
        """Whether any of a matrix's names is meant."""
        pattern = self.pattern
        if self.form == "all but":
            found = _compiled(pattern)
            return not any(found.search(name) for name in names)
        if self.form == "regex" or pattern.startswith("re:"):
            found = _compiled(pattern.removeprefix("re:"))
            return any(found.match(name) for name in names)
        if "*" in pattern:
            return any(fnmatchcase(n, p) for n in names for p in (pattern, f"{pattern}.*"))
        if any(c in pattern for c in "^$\\|+"):
            found = _compiled(pattern)
            return any(found.search(name) for name in names)
        part = f".{pattern.strip('.')}."
        return any(part in f".{name}." for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Mean bytes of a layer's weight, and the rules that met nothing."""

    mean_bytes: float
    unmatched: tuple[str, ...] = ()


def mean_bytes(model: Model, usual: float, rules: Sequence[Rule]) -> Weights:
    """Mean bytes of the layers' weights: ``usual``, or what the first rule that matches says.

    Raises: ModelError if there are too many rules, or one is no regular expression.
    """
    if not rules:
        return Weights(mean_bytes=usual)
    general, by_layer = _sorted_by_layer(rules)
    total, whole, matched = 0.0, 0.0, set()
    for layer in range(model.shape.num_layers):
        asked = [*by_layer.get(layer, ()), *general]
        for names, params in _matrices(model, layer):
            met = next((rule for rule in asked if rule.matches(names)), None)
            total += params * (usual if met is None else met.bytes_each)
            whole += params
            if met is not None:
                matched.add(met.pattern)
    met_none = [r for r in general if r.pattern not in matched]
    met_none += [r for of in by_layer.values() for r in of if r.pattern not in matched]
    unmatched = dict.fromkeys(r.pattern for r in met_none if not _NOT_COUNTED.search(r.pattern))
    return Weights(mean_bytes=total / whole, unmatched=tuple(unmatched))


def _sorted_by_layer(rules: Sequence[Rule]) -> tuple[list[Rule], dict[int, list[Rule]]]:
    """Rules for all layers, and those that name one. Raises: ModelError if there are too many."""
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
    return list(general), {layer: list(found) for layer, found in by_layer.items()}


def _matrices(model: Model, layer: int) -> Iterator[tuple[tuple[str, ...], float]]:
    """A layer's matrices: the names that checkpoints give them, and their parameters."""
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
    """The one layer that a plain name is of: only that layer's matrices need be compared."""
    if pattern.startswith("re:") or any(c in pattern for c in "*^$\\|+([?"):
        return None
    found = re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,6})(?:\.|$)", pattern)
    return int(found[1]) if found else None


def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern that matches any module's name in little time.

    Raises: ModelError for one that is wrong, and for one that could take for ever: repeated groups
    and references back do, and each open repeat multiplies the steps by the length of the name.
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
