"""Checks of the checkpoint and the tokenizer before the engines load."""

from pathlib import Path
from typing import TYPE_CHECKING

from seesaw_core.errors import ModelError
from seesaw_core.resharding.weights import TensorInfo
from seesaw_worker.modes.resharding.weights.host import HostTensor, no_safetensors, read_header
from seesaw_worker.settings.model_path import PATH_STARTS
from seesaw_worker.upstream.refusals import one_line, refusals

if TYPE_CHECKING:
    from vllm.config import ModelConfig

_LENGTH_BYTES = 8


def check_tokenizer(config: "ModelConfig") -> None:
    """Load the tokenizer, so that a broken one fails before the engines load. vLLM caches it.

    Raises: ModelError.
    """
    from vllm.tokenizers import cached_tokenizer_from_config

    name = str(config.tokenizer)
    if name.startswith(PATH_STARTS) and not Path(name).expanduser().exists():
        raise ModelError(f"--tokenizer={name}: no such folder")
    with refusals():
        try:
            cached_tokenizer_from_config(config)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"--tokenizer={name} cannot be loaded ({one_line(error)}); give a folder that "
                "holds a tokenizer, or --skip-tokenizer-init"
            ) from error


def is_local(model: str) -> bool:
    """Return whether a model is a folder on this machine rather than a hub name."""
    return Path(model).expanduser().is_dir()


def checkpoint_tensors(model: str) -> tuple[TensorInfo, ...]:
    """Return names and sizes of a checkpoint's tensors, from its headers alone.

    The checkpoint of a hub name is downloaded first, as vLLM does.
    Raises: ModelError if there are no safetensors files, or one is broken.
    """
    folder = Path(model).expanduser() if is_local(model) else _download(model)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise no_safetensors(model)
    return tuple(
        TensorInfo(
            name=tensor.name, num_dims=len(tensor.shape), num_bytes=tensor.stop - tensor.start
        )
        for file in files
        for tensor in checked_header(file)
    )


def checked_header(file: Path) -> list[HostTensor]:
    """Return the tensors of a safetensors file, after checking that it holds all of them.

    Raises: ModelError if it is no safetensors file, or cut short.
    """
    num_bytes = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH_BYTES), "little")
    if num_bytes < _LENGTH_BYTES or length > num_bytes - _LENGTH_BYTES:
        raise ModelError(
            f"{file}: not a safetensors file, or one cut short after {num_bytes} bytes; fetch "
            "it again (a few hundred bytes are a Git LFS pointer: `git lfs pull`)"
        )
    try:
        tensors = read_header(file)
    except (AttributeError, LookupError, TypeError) as error:
        raise ModelError(f"{file}: its header is no safetensors header ({error!r})") from error
    needed = max((tensor.stop for tensor in tensors), default=0)
    if needed > num_bytes:
        raise ModelError(
            f"{file} is cut short: it has {num_bytes} bytes of {needed}; fetch it again"
        )
    return tensors


def _download(model: str) -> Path:
    from vllm.model_executor.model_loader.weight_utils import download_weights_from_hf

    try:
        return Path(
            download_weights_from_hf(model, cache_dir=None, allow_patterns=["*.safetensors"])
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{model}: no such folder, and the hub cannot give it ({one_line(error)}); give a "
            "checkpoint's folder, or check the name and the network"
        ) from error
