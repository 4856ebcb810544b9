"""Finds the matrices that a quantised checkpoint keeps wide or stores in other bits.

Checkpoints name matrices by whole names, parts of names, prefixes, wildcards or regular
expressions. Each pattern is matched with the matrices that the model counts, layer by layer.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache

from seesaw_core.errors import ModelError
from seesaw_core.planner.layers import Layer, Product

_MOST_RULES = 200_000  # a 405B model names about 900; some name every expert of every layer
_MOST_GENERAL = 200  # each is compared with every matrix of every layer
_LONGEST_RULE = 2000  # characters; names of modules have fewer than a hundred
_PREFIXES = (
    *("model.", "language_model.model.", "model.language_model.", "transformer.", "backbone."),
    "",
)
_OF_LAYER = re.compile(
    rf"(?:{'|'.join(re.escape(prefix) for prefix in _PREFIXES)})layers\.(\d{{1,6}})(\.|\*|$)"
)
_MOST_REPEATS = 3  # a match takes as many steps as the length of a name to this power
_NOT_COUNTED = re.compile(  # modules that stay wide in any case, or are not in the layers
    r"lm_head|embed|norm|vision|visual|audio|mtp|rotary|bias|merger|multi_modal|projector|"
    r"^(re:)?\.?\*?(model\.)?(wte|wpe|score|output|head$|patch_merge)"
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
    """Layers with the bytes of their weights, and the rules that match none of their matrices."""

    layers: tuple[Layer, ...]
    unmatched: tuple[str, ...] = ()


def weigh(layers: Sequence[Layer], usual: float, rules: Sequence[Rule]) -> Weights:
    """Set the bytes per weight: those of the first rule that matches, or else ``usual``.

    Raises: ModelError if there are too many rules, or one is not a regular expression.
    """
    known: dict[Layer, Layer] = {}
    if not rules:
        for layer in layers:
            if layer not in known:
                known[layer] = _with_bytes(layer, dict.fromkeys(layer.products, usual))
        return Weights(layers=tuple(known[layer] for layer in layers))
    general, by_layer = _sorted_by_layer(rules)
    matched: set[str] = set()
    weighed = []
    for number, layer in enumerate(layers):
        found = {}
        for product in layer.products:
            rule = _rule_of(product, number, by_layer.get(number, ()), general)
            found[product] = usual if rule is None else rule.bytes_each
            if rule is not None:
                matched.add(rule.pattern)
        weighed.append(_with_bytes(layer, found))
    unmatched = _idle(layers, by_layer, [r for r in general if r.pattern not in matched])
    return Weights(layers=tuple(weighed), unmatched=tuple(unmatched))


def _idle(
    layers: Sequence[Layer], by_layer: Mapping[int, Sequence[Rule]], general: Sequence[Rule]
) -> Iterator[str]:
    """Yield the patterns that match nothing, not even what an earlier rule has matched."""
    for number, rules in by_layer.items():
        if number < len(layers):  # further layers predict tokens, and are not counted
            names = [n for p in layers[number].products for n in _bare(number, p)]
            wanted = (r for r in rules if not _NOT_COUNTED.search(r.pattern))
            yield from (r.pattern for r in wanted if not r.matches(names))
    wanted = (r for r in general if not _NOT_COUNTED.search(r.pattern))
    yield from (r.pattern for r in wanted if not _matches_any(r, layers))


def _matches_any(rule: Rule, layers: Sequence[Layer]) -> bool:
    beyond = re.search(r"(?:^|\.)layers\.(\d{1,6})\*?$", rule.pattern)
    if beyond and int(beyond[1]) >= len(layers):
        return True
    return any(
        rule.matches([f"{prefix}{name}" for name in _bare(n, product) for prefix in _PREFIXES])
        for n, layer in enumerate(layers)
        for product in layer.products
    )


def _bare(layer: int, product: Product) -> list[str]:
    """Return a matrix's names, without what stands before its layer."""
    return [f"layers.{layer}.{name}" for name in product.names]


def _rule_of(
    product: Product, layer: int, own: Sequence[Rule], general: Sequence[Rule]
) -> Rule | None:
    """Return the first rule that matches, of those for this layer and then of those for all."""
    bare = _bare(layer, product)
    for rule in own:  # written without a prefix
        if rule.matches(bare):
            return rule
    whole = [f"{prefix}{name}" for name in bare for prefix in _PREFIXES] if general else []
    return next((rule for rule in general if rule.matches(whole)), None)


def _with_bytes(layer: Layer, bytes_each: Mapping[Product, float]) -> Layer:
    def weighed(products: Iterable[Product]) -> tuple[Product, ...]:
        return tuple(replace(p, bytes_each=bytes_each[p]) for p in products)

    mixer = layer.mixer
    if mixer is not None:
        mixer = replace(mixer, products=weighed(mixer.products))
    return Layer(mixer=mixer, mlp=weighed(layer.mlp))


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
        layer = _layer_of(rule)
        if layer is None:
            general[rule] = None
        else:
            below = rule.pattern[rule.pattern.index("layers.") :]
            alike = re.sub(r"\.experts\.\d+", ".experts.0", below)  # experts are alike
            by_layer.setdefault(layer, {})[replace(rule, pattern=alike)] = None
    if len(general) > _MOST_GENERAL or len(rules) > _MOST_RULES:
        raise ModelError(
            f"config.json: quantization_config names {len(rules):,} modules, {len(general):,} of "
            f"them for all layers; at most {_MOST_RULES:,} and {_MOST_GENERAL:,} are read"
        )
    return list(general), {layer: list(own) for layer, own in by_layer.items()}


def _layer_of(rule: Rule) -> int | None:
    """Return the layer of a name, with whose matrices alone it must be compared."""
    pattern = rule.pattern
    if rule.form != "auto" or pattern.startswith("re:") or any(c in pattern for c in "^$\\|+([?"):
        return None
    match = _OF_LAYER.match(pattern)
    if match is None or (match[2] == "*" and match[1] != "0"):  # 1* is for 10 as well
        return None
    return int(match[1])


@lru_cache(maxsize=1024)
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
