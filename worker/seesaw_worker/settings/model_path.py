"""Checks that a model exists, before vLLM is imported."""

from pathlib import Path

from seesaw_core.errors import ModelError

_SHOWN_CHARS = 200
PATH_STARTS = ("/", "./", "../", "~")


def check_model_path(model: str) -> None:
    """Refuse a local path that holds no model. Hub names pass. Raises: ModelError."""
    try:
        path = Path(model).expanduser()
        exists = path.exists()
    except (OSError, RuntimeError) as error:  # too long a name; no such user's home
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{model[:_SHOWN_CHARS]}: {reason}; give a checkpoint's folder or a hub name"
        ) from error
    if not exists:
        if model.startswith(PATH_STARTS):
            raise ModelError(f"{model}: no such folder; give a checkpoint's folder or a hub name")
        return
    if not path.is_dir():
        raise ModelError(f"{model} is a file; give the folder that holds it and its config.json")
    if not (path / "config.json").exists():
        raise ModelError(f"{model} holds no config.json, so it is not a Hugging Face checkpoint")
