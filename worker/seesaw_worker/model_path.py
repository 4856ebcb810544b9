"""The first check of all, made before vLLM is imported: is there a model at all?"""

from pathlib import Path

from seesaw_core.errors import ModelError

PATH_STARTS = ("/", "./", "../", "~")


def check_model_path(model: str) -> None:
    """Refuse a local path that holds no model. Hub names pass. Raises: ModelError."""
    path = Path(model).expanduser()
    if not path.exists():
        if model.startswith(PATH_STARTS):
            raise ModelError(f"{model}: no such folder; give a checkpoint's folder or a hub name")
        return
    if not path.is_dir():
        raise ModelError(f"{model} is a file; give the folder that holds it and its config.json")
    if not (path / "config.json").exists():
        raise ModelError(f"{model} holds no config.json, so it is no Hugging Face checkpoint")
