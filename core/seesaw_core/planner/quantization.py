"""Reads the quantisation that checkpoints declare: bytes per weight, and the arithmetic."""

import re
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
_GPTQ = {"gptq", "awq", "gptq_marlin", "awq_marlin", "auto-round", "auto_round"}


# Lists and objects that do not change the width of a module, or that are read elsewhere.
_HARMLESS = {
    *("config_groups", "kv_cache_scheme", "quantization", "dynamic", "meta", "weight_block_size"),
    *("modules_in_block_to_quantize", "producer", "sparsity_config", "transform_config", "dataset"),
    *("tokenizer", "quantizer", "version", "exllama_config", "input_activations", "weights"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """Bytes per weight, scales included, of the matrices that no rule of ``rules`` matches.

    ``kv_bytes`` is the size of an element of KV, None unless the checkpoint sets it.
    """

    weight_bytes: float
    arithmetic: Arithmetic = Arithmetic.WIDE
    rules: tuple[Rule, ...] = ()
    kv_bytes: int | None = None


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
    inner = config.get("quantization")
    if isinstance(inner, Mapping):  # as in hf_quant_config.json
        config = {"quant_method": "modelopt", **config, **inner}
    usual, arithmetic = _usual(config)
    rules = (*_wide(config, dtype_bytes), *_dynamic(config, dtype_bytes), *_groups(config))
    return Quantization(
        weight_bytes=usual, arithmetic=arithmetic, rules=rules, kv_bytes=_kv_bytes(config)
    )


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


def _usual(config: Mapping[str, Any]) -> tuple[float, Arithmetic]:
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
            return _modelopt(config)
        case "mxfp4":
            return 4.25 / 8, Arithmetic.WIDE  # a scale of 8 bits for each 32 weights
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


def _modelopt(config: Mapping[str, Any]) -> tuple[float, Arithmetic]:
    match config.get("quant_algo"):
        case "FP8":
            return 1.0, Arithmetic.FP8
        case "NVFP4" | "W4A16_NVFP4":
            return 4.5 / 8, Arithmetic.WIDE  # a scale of 8 bits for each 16 weights
        case other:
            raise ModelError(
                f"quantization_config: quant_method=modelopt with quant_algo={shown(other)} is not "
                "described; described are FP8 and NVFP4"
            )


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
    scales = 16 / group if isinstance(group, int) and group > 0 else 0.0  # of 16 bits each
    return float(bits + scales) / 8


def _groups(config: Mapping[str, Any]) -> Iterator[Rule]:
    """Yield rules for the groups of compressed-tensors that name modules."""
    if str(config.get("quant_method") or "").lower() != "compressed-tensors":
        return
    for part in _config_groups(config):
        for target in _texts(part.get("targets"), "config_groups.targets"):
            if target != "Linear":
                yield Rule(pattern=target, bytes_each=_group_bytes(part))


def _wide(config: Mapping[str, Any], dtype_bytes: int) -> Iterator[Rule]:
    for name in _WIDE_LISTS:
        for pattern in _texts(config.get(name), name):
            yield Rule(pattern=pattern, bytes_each=float(dtype_bytes))
    blocks = config.get("modules_in_block_to_quantize")
    if blocks is not None:
        listed = _listed(blocks, "modules_in_block_to_quantize")
        names = [n for block in listed for n in _texts(block, "modules_in_block_to_quantize")]
        kept = "|".join(re.escape(name) for name in names)
        yield Rule(pattern=rf"(^|\.)({kept})$", bytes_each=float(dtype_bytes), form="all but")


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
        usual, _ = _usual({**config, **changed})
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
