"""Quantisation as checkpoints declare it: bytes of a weight, and what products are taken in."""

from collections.abc import Mapping
from typing import Any

from seesaw_core.errors import ModelError
from seesaw_core.models import Arithmetic


def read_quantization(found: Any, dtype_bytes: int) -> tuple[float, Arithmetic]:
    """Bytes of a layer's weight with its scales, and what products are taken in.

    ``found`` is the config's ``quantization_config``, None for none.

    Raises: ModelError for a method that is not described.
    """
    if found is None:
        return float(dtype_bytes), Arithmetic.WIDE
    if not isinstance(found, Mapping):
        raise ModelError(
            f"config.json: quantization_config={str(found)[:60]!r} must be an object with a "
            "quant_method"
        )
    method = str(found.get("quant_method") or "").lower()
    match method:
        case "gptq" | "awq" | "gptq_marlin" | "awq_marlin" | "auto-round":
            bits, group = found.get("bits", 4), found.get("group_size", 128)
            if bits not in (2, 3, 4, 8) or not isinstance(group, int) or group in (0, None):
                raise ModelError(
                    f"config.json: quantization_config has bits={bits!r} and group_size={group!r}; "
                    "bits must be 2, 3, 4 or 8, and group_size a whole number (-1 for none)"
                )
            return (bits + (0 if group < 0 else 20 / group)) / 8, Arithmetic.WIDE
        case "fp8" | "fbgemm_fp8":
            return 1.0, Arithmetic.FP8
        case "modelopt" if found.get("quant_algo") == "FP8":
            return 1.0, Arithmetic.FP8
        case "modelopt" if found.get("quant_algo") == "NVFP4":
            return 4.5 / 8, Arithmetic.WIDE
        case "mxfp4":
            return 4.25 / 8, Arithmetic.WIDE
        case "bitsandbytes":
            return (4.5 / 8 if found.get("load_in_4bit") else 1.0), Arithmetic.WIDE
        case "compressed-tensors":
            return _compressed(found)
        case _:
            raise ModelError(
                f"config.json: quantization_config.quant_method={method!r} is not described; "
                "described are gptq, awq, fp8, mxfp4, modelopt (FP8, NVFP4), bitsandbytes and "
                "compressed-tensors"
            )


def _compressed(found: Mapping[str, Any]) -> tuple[float, Arithmetic]:
    groups = found.get("config_groups")
    parts = list(groups.values()) if isinstance(groups, Mapping) else []
    weights = [_part(p, "weights") for p in parts]
    bits = {w.get("num_bits") for w in weights}
    (width,) = bits if len(bits) == 1 else (None,)
    if not isinstance(width, int) or width < 1:
        raise ModelError(
            "config.json: quantization_config.config_groups must have weights of one num_bits, "
            f"the same in all groups; got {str(groups)[:80]!r}"
        )
    inputs = [_part(p, "input_activations") for p in parts]
    if any(i.get("num_bits") != 8 for i in inputs):
        return width / 8, Arithmetic.WIDE
    is_float = all(i.get("type") == "float" for i in inputs)
    return width / 8, Arithmetic.FP8 if is_float else Arithmetic.INT8


def _part(group: Any, name: str) -> Mapping[str, Any]:
    part = group.get(name) if isinstance(group, Mapping) else None
    return part if isinstance(part, Mapping) else {}
