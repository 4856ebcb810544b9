"""Files beside a ``config.json`` that describe how a checkpoint is quantised.

ModelOpt, GPTQ and AWQ wrote them before configs had a ``quantization_config``, which takes
precedence.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seesaw_core.errors import ModelError

_LARGEST_BYTES = 32 << 20
_KEY = "quantization_config"
_METHODS = {
    "hf_quant_config.json": "modelopt",
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
}


def with_quantization(
    config: Mapping[str, Any], folder: Path, *, prefix: str = ""
) -> dict[str, Any]:
    """Return the config with the quantisation that a file beside it declares.

    ``prefix`` stands before the names of both files where a folder holds several models.
    Raises: ModelError naming the file if it cannot be read.
    """
    if any(config.get(key) is not None for key in (_KEY, "compression_config")):
        return dict(config)
    for name, method in _METHODS.items():
        file = folder / f"{prefix}{name}"
        if file.exists():
            return {**config, _KEY: {"quant_method": method, **read_object(file)}}
    return dict(config)


def read_object(file: Path) -> dict[str, Any]:
    """Read a JSON object of at most 32 MiB. Raises: ModelError naming the file."""
    try:
        if not file.is_file():
            raise ModelError(f"{file.name} is not a regular file; replace or remove it")
        with file.open("rb") as opened:
            data = opened.read(_LARGEST_BYTES + 1)
        if len(data) > _LARGEST_BYTES:
            raise ModelError(
                f"{file.name} has more than {_LARGEST_BYTES >> 20} MiB, too much for a config"
            )
        config = json.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise ModelError(
            f"{file.name} cannot be read ({error.strerror}); replace or remove it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{file.name} is not JSON: {str(error)[:100]}; fetch it again") from error
    if not isinstance(config, dict):
        raise ModelError(f"{file.name} must hold an object, got {type(config).__name__}")
    return config
