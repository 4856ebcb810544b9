"""Reads the quantisation that checkpoints declare: bytes per weight, and the arithmetic."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from seesaw_core.errors import ModelError
from seesaw_core.planner.bounds import shown
from seesaw_core.planner.models import Arithmetic
from seesaw_core.planner.quantized_modules import Rule

# Fields in which checkpoints name the modules that stay in 16 bits.
_WIDE_LISTS = (
    *("modules_to_not_convert", "ignore", "ignored_layers", "exclude_modules"),
    *("llm_int8_skip_modules", "exclude", "skip_modules"),
)
_SCALE_BITS = 20  # per group: a scale of 16 bits and a zero point of 4
_MXFP4, _NVFP4 = 4.25 / 8, 4.5 / 8  # a scale of 8 bits for each 32 weights, or for each 16
# ModelOpt's algorithms: bytes of a weight with its scales, and the arithmetic.
_ALGORITHMS = {
    "FP8": (1.0, Arithmetic.FP8),
    "FP8_PB_WO": (1.0, Arithmetic.FP8),
    "FP8_PER_CHANNEL_PER_TOKEN": (1.0, Arithmetic.FP8),
    "MXFP8": (8.25 / 8, Arithmetic.FP8),
    "NVFP4": (_NVFP4, Arithmetic.FP4),
    "W4A16_NVFP4": (_NVFP4, Arithmetic.WIDE),
    "NVFP4_AWQ": (_NVFP4, Arithmetic.FP4),
    "W4A16_MXFP4": (_MXFP4, Arithmetic.WIDE),
}
_EXPERT = re.compile(r"\.experts\.\d+")  # experts are alike
_MIXED = "MIXED_PRECISION"  # ``quantized_layers`` names the algorithm of each module
# Experts alone are in another format; what ``ignore`` names keeps the method's own.
_MOE_ALGORITHM = "moe_quant_algo"
_EXPERT_DTYPES = {"fp4": _MXFP4, "fp8": 1.0, "bfloat16": 2.0}
# Methods whose weights the worker refuses to re-shard.
_FIXED = {
    "bitsandbytes": "bitsandbytes weights cannot be laid out for another layout",
}
_GPTQ = {"gptq", "awq", "gptq_marlin", "awq_marlin", "auto-round", "auto_round"}


# Lists and objects that do not change the width of a module, or that are read elsewhere.
_HARMLESS = {
    *("config_groups", "kv_cache_scheme", "quantization", "dynamic", "meta", "weight_block_size"),
    *("quantized_layers", "quantization_status"),
    *("modules_in_block_to_quantize", "producer", "sparsity_config", "transform_config", "dataset"),
    *("tokenizer", "quantizer", "version", "exllama_config", "input_activations", "weights"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """Bytes per weight, scales included, of the matrices that no rule of ``rules`` matches.

    ``kv_bytes`` is the size of an element of KV, and ``head_bytes`` that of a weight of the output
    head; each is None unless the checkpoint sets it. ``cannot_reshard`` says why a worker cannot
    lay these weights out for another layout, if so.
    """

    weight_bytes: float
    arithmetic: Arithmetic = Arithmetic.WIDE
    rules: tuple[Rule, ...] = ()
    kv_bytes: int | None = None
    head_bytes: float | None = None
    cannot_reshard: str | None = None


def read_quantization(config: Any, dtype_bytes: int) -> Quantization:
    """Read a config's ``quantization_config``; None for none.

    Raises: ModelError for a method that is not described, naming the field.
    """
    if config is None:
        return Quantization(weight_bytes=float(dtype_bytes))
    if not isinstance(config, Mapping):
        raise ModelError(
            f"config.json: quantization_config={str(config)[:60]!r} must be an object with a "
            "quant_method"
        )
    config = _flat(config)
    usual, arithmetic = _usual(config, dtype_bytes)
    rules = (
        *_wide(config, usual if _MOE_ALGORITHM in config else float(dtype_bytes)),
        *_dynamic(config, dtype_bytes),
        *_named_layers(config),
        *_groups(config),
    )
    head = next((rule.bytes_each for rule in rules if rule.pattern == "lm_head"), None)
    method = str(config.get("quant_method") or "").lower()
    return Quantization(
        weight_bytes=usual,
        arithmetic=arithmetic,
        rules=rules,
        kv_bytes=_kv_bytes(config),
        head_bytes=head,
        cannot_reshard=_FIXED.get(method),
    )


def _flat(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ModelOpt's fields at one level, with the method that they leave out."""
    inner = config.get("quantization")
    if isinstance(inner, Mapping):  # as in hf_quant_config.json
        return {"quant_method": "modelopt", **config, **inner}
    if "quant_method" not in config and "quant_algo" in config:
        return {"quant_method": "modelopt", **config}
    return config


def expert_rules(expert_dtype: Any) -> tuple[Rule, ...]:
    """Return rules for experts whose width the config gives apart from the quantisation.

    Raises: ModelError for a width that is not described.
    """
    if expert_dtype is None:
        return ()
    if not isinstance(expert_dtype, str) or expert_dtype not in _EXPERT_DTYPES:
        raise ModelError(
            f"config.json: expert_dtype={shown(expert_dtype)} is not described; described are "
            f"{', '.join(_EXPERT_DTYPES)}"
        )
    return (Rule(pattern="experts.0", bytes_each=_EXPERT_DTYPES[expert_dtype]),)


def not_understood(config: Any) -> list[str]:
    """Return fields of a ``quantization_config`` that are not read and may change widths."""
    if not isinstance(config, Mapping):
        return []
    unread = {k: v for k, v in config.items() if k not in _HARMLESS and k not in _WIDE_LISTS}
    names = [
        str(name)
        for name, value in unread.items()
        if (isinstance(value, Mapping | list) and value) or (value is True and "head" in str(name))
    ]
    return [f"quantization_config.{name[:60]}" for name in names]


def _usual(config: Mapping[str, Any], dtype_bytes: int) -> tuple[float, Arithmetic]:
    method = str(config.get("quant_method") or "").lower()
    match method:
        case _ if method in _GPTQ:
            bits = config.get("bits", config.get("w_bit"))
            group = config.get("group_size", config.get("q_group_size"))
            if bits not in (2, 3, 4, 8) or not isinstance(group, int) or group in (0, None):
                raise ModelError(
                    f"config.json: quantization_config has bits={shown(bits)} and "
                    f"group_size={shown(group)}; "
                    "bits must be 2, 3, 4 or 8, and group_size a whole number (-1 for none)"
                )
            return (bits + (0 if group < 0 else _SCALE_BITS / group)) / 8, Arithmetic.WIDE
        case "fp8" | "fbgemm_fp8" | "ptpc_fp8":
            return 1.0, Arithmetic.FP8
        case "modelopt" | "modelopt_fp4":
            return _modelopt(config, dtype_bytes)
        case "mxfp4":
            return _MXFP4, Arithmetic.WIDE
        case "bitsandbytes":
            # In 4 bits, with a scale of 32 bits for each 64 weights.
            return (4.5 / 8 if config.get("load_in_4bit") else 1.0), Arithmetic.WIDE
        case "compressed-tensors":
            return _compressed(config)
        case _:
            raise ModelError(
                f"config.json: quantization_config.quant_method={shown(method)} is not described; "
                "described are gptq, awq, fp8, mxfp4, modelopt (FP8, NVFP4), bitsandbytes and "
                "compressed-tensors"
            )


def _modelopt(config: Mapping[str, Any], dtype_bytes: int) -> tuple[float, Arithmetic]:
    """Return the usual width, and the arithmetic of most modules."""
    algorithm = config.get("quant_algo")
    if algorithm == _MIXED:
        arithmetic = [_algorithm(algorithm)[1] for _, algorithm in _algorithms(config)]
        if not arithmetic:
            raise ModelError(
                f"quantization_config: quant_algo={_MIXED} needs quantized_layers, an object that "
                "names the quant_algo of each module"
            )
        return float(dtype_bytes), Counter(arithmetic).most_common(1)[0][0]
    return _algorithm(algorithm)


def _algorithm(name: Any) -> tuple[float, Arithmetic]:
    if name is None:
        raise ModelError(
            "quantization_config: quant_method=modelopt lacks quant_algo, such as FP8 or NVFP4; "
            "fetch config.json and hf_quant_config.json again"
        )
    if not isinstance(name, str) or name not in _ALGORITHMS:
        raise ModelError(
            f"quantization_config: quant_method=modelopt with quant_algo={shown(name)} is not "
            f"described; described are {', '.join(_ALGORITHMS)} and {_MIXED}"
        )
    return _ALGORITHMS[name]


def _algorithms(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the modules of ``quantized_layers`` with their algorithms. Raises: ModelError."""
    named = config.get("quantized_layers") or {}
    if not isinstance(named, Mapping):
        raise ModelError(
            f"quantization_config.quantized_layers={shown(named)} must be an object of modules"
        )
    for module, how in named.items():
        if not isinstance(how, Mapping) or "quant_algo" not in how:
            raise ModelError(
                f"quantization_config.quantized_layers: {shown(module)} must have a quant_algo"
            )
        yield module, how["quant_algo"]


def _named_layers(config: Mapping[str, Any]) -> Iterator[Rule]:
    alike = {_EXPERT.sub(".experts.0", m): algorithm for m, algorithm in _algorithms(config)}
    for module, algorithm in alike.items():
        yield Rule(pattern=module, bytes_each=_algorithm(algorithm)[0])


def _compressed(config: Mapping[str, Any]) -> tuple[float, Arithmetic]:
    """Read the first group's width and arithmetic. The other groups become rules."""
    parts = _config_groups(config)
    widths = [_part(p, "weights").get("num_bits") for p in parts]
    if not widths or not all(isinstance(width, int) and 1 <= width <= 64 for width in widths):
        raise ModelError(
            "config.json: quantization_config.config_groups must have groups with weights of a "
            f"num_bits from 1 to 64 each; got {shown(config.get('config_groups'))}"
        )
    if len(set(widths)) > 1 and not all(p.get("targets") for p in parts):
        raise ModelError(
            "config.json: quantization_config.config_groups has groups of different num_bits "
            "without targets; name the modules of each"
        )
    inputs = [_part(p, "input_activations") for p in parts]
    usual = _group_bytes(parts[0])
    if any(i.get("num_bits") != 8 for i in inputs):
        return usual, Arithmetic.WIDE
    is_float = all(i.get("type") == "float" for i in inputs)
    return usual, Arithmetic.FP8 if is_float else Arithmetic.INT8


def _config_groups(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = config.get("config_groups")
    parts = list(groups.values()) if isinstance(groups, Mapping) else []
    if not all(isinstance(part, Mapping) for part in parts):
        return []
    return sorted(parts, key=lambda p: "Linear" not in str(p.get("targets")))


def _group_bytes(part: Mapping[str, Any]) -> float:
    weights = _part(part, "weights")
    bits, group = weights["num_bits"], weights.get("group_size")
    is_micro = bits == 4 and weights.get("type") == "float"  # NVFP4 and MXFP4 have scales of 8 bits
    scales = (8 if is_micro else 16) / group if isinstance(group, int) and group > 0 else 0.0
    return float(bits + scales) / 8


def _groups(config: Mapping[str, Any]) -> Iterator[Rule]:
    """Yield rules for the groups of compressed-tensors that name modules."""
    if str(config.get("quant_method") or "").lower() != "compressed-tensors":
        return
    for part in _config_groups(config):
        for target in _texts(part.get("targets"), "config_groups.targets"):
            if target != "Linear":
                yield Rule(pattern=target, bytes_each=_group_bytes(part))


def _wide(config: Mapping[str, Any], bytes_each: float) -> Iterator[Rule]:
    """Yield rules for the modules that are kept out of the quantisation."""
    for name in _WIDE_LISTS:
        for pattern in _texts(config.get(name), name):
            yield Rule(pattern=pattern, bytes_each=bytes_each)
    blocks = config.get("modules_in_block_to_quantize")
    if blocks is not None:
        listed = _listed(blocks, "modules_in_block_to_quantize")
        names = [n for block in listed for n in _texts(block, "modules_in_block_to_quantize")]
        kept = "|".join(re.escape(name) for name in names)
        yield Rule(pattern=rf"(^|\.)({kept})$", bytes_each=bytes_each, form="all but")


def _dynamic(config: Mapping[str, Any], dtype_bytes: int) -> Iterator[Rule]:
    """Yield GPTQModel's rules: ``-:regex`` keeps modules wide, ``+:regex`` sets other bits."""
    dynamic = config.get("dynamic") or {}
    if not isinstance(dynamic, Mapping):
        raise ModelError(f"quantization_config.dynamic={str(dynamic)[:60]!r} must be an object")
    for pattern, changes in dynamic.items():
        if pattern.startswith("-:"):
            yield Rule(pattern=pattern[2:], bytes_each=float(dtype_bytes), form="regex")
            continue
        changed = changes if isinstance(changes, Mapping) else {}
        usual, _ = _usual({**config, **changed}, dtype_bytes)
        yield Rule(pattern=pattern.removeprefix("+:"), bytes_each=usual, form="regex")


def _kv_bytes(config: Mapping[str, Any]) -> int | None:
    """Return bytes per element of KV, as vLLM reads them with ``--kv-cache-dtype auto``."""
    scheme, algorithm = config.get("kv_cache_scheme"), config.get("kv_cache_quant_algo")
    if isinstance(scheme, Mapping) and scheme:
        if scheme.get("num_bits") != 8:
            raise ModelError(
                f"quantization_config.kv_cache_scheme={str(scheme)[:60]} must have num_bits=8; "
                "--kv-cache-dtype sets another"
            )
        return 1
    algorithm = algorithm or scheme
    if algorithm in (None, {}, "", "auto", "none"):
        return None
    if str(algorithm).upper() in ("FP8", "FP8_E4M3", "FP8_E5M2"):
        return 1
    raise ModelError(
        f"quantization_config.kv_cache_quant_algo={str(algorithm)[:60]!r} is not described; "
        "described is FP8"
    )


def _texts(value: Any, name: str) -> Iterable[str]:
    values = [value] if isinstance(value, str) else _listed(value or [], name)
    if not all(isinstance(each, str) for each in values):
        raise ModelError(f"quantization_config.{name}={str(value)[:60]} must be a list of names")
    return [each for each in values if each]


def _listed(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise ModelError(f"quantization_config.{name}={str(value)[:60]} must be a list of names")
    return list(value)


def _part(group: Any, name: str) -> Mapping[str, Any]:
    part = group.get(name) if isinstance(group, Mapping) else None
    return part if isinstance(part, Mapping) else {}
