"""Checks before anything is loaded: refuse what cannot work, naming the value and the fix."""

from pathlib import Path

from seesaw_core.errors import ModelError
from seesaw_core.weights import TensorInfo
from seesaw_worker.weights.host import read_header

_PATH_STARTS = ("/", "./", "../", "~")


def check_model_path(model: str) -> None:
    """Refuse a local path that holds no model. Hub names pass. Raises: ModelError."""
    path = Path(model).expanduser()
    if not path.exists():
        if model.startswith(_PATH_STARTS):
            raise ModelError(f"{model}: no such folder; give a checkpoint's folder or a hub name")
        return
    if not path.is_dir():
        raise ModelError(f"{model} is a file; give the folder that holds it and its config.json")
    if not (path / "config.json").exists():
        raise ModelError(f"{model} holds no config.json, so it is no Hugging Face checkpoint")


def checkpoint_tensors(model: str) -> tuple[TensorInfo, ...]:
    """Names and sizes of a local checkpoint's tensors, from its headers alone.

    Raises: ModelError if a local folder has no safetensors files or a broken one.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        from vllm.model_executor.model_loader.weight_utils import download_weights_from_hf

        folder = Path(
            download_weights_from_hf(model, cache_dir=None, allow_patterns=["*.safetensors"])
        )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(
            f"{model} holds no *.safetensors files, which sharing one host copy of the weights "
            "needs; convert the checkpoint, or use --weights resident"
        )
    return tuple(
        TensorInfo(
            name=tensor.name, num_dims=len(tensor.shape), num_bytes=tensor.stop - tensor.start
        )
        for file in files
        for tensor in read_header(file)
    )
