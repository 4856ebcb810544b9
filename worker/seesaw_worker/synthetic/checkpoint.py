"""Writes a synthetic checkpoint to disk atomically.

This module knows the files that Hugging Face and vLLM read, and nothing of how values are drawn.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from pathlib import Path
from typing import Final

from safetensors.torch import save_file

from seesaw_worker.synthetic.spec import (
    DTYPE_BYTES,
    EXPERTS_PER_TOKEN,
    Architecture,
    ModelSpec,
)
from seesaw_worker.synthetic.tensors import TensorSpec, draw, tensors, weights_bytes
from seesaw_worker.synthetic.tokenizer import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    quiet_token_ids,
    save_tokenizer,
    train_tokenizer,
)

MARKER: Final = "seesaw-synthetic.json"
"""The file that names the :class:`ModelSpec` of a folder. It is written last."""

SHARD_BYTES: Final = 128 << 20
"""A weights file holds at most this much, or one tensor if that tensor alone is larger."""

_FORMAT: Final = 1  # part of the marker: increase it when the files of a spec change
_CLASS_NAMES: Final = {
    Architecture.LLAMA: "LlamaForCausalLM",
    Architecture.QWEN2: "Qwen2ForCausalLM",
    Architecture.QWEN3: "Qwen3ForCausalLM",
    Architecture.MISTRAL: "MistralForCausalLM",
    Architecture.MIXTRAL: "MixtralForCausalLM",
}


def write_checkpoint(path: Path, spec: ModelSpec) -> None:
    """Write the checkpoint of ``spec`` to ``path`` unless it already exists.

    The same spec always gives the same weights. The files are written beside ``path`` and then
    renamed, so ``path`` holds a complete checkpoint or nothing, and several processes may call this
    at once. A synthetic checkpoint of another spec is replaced. At most one shard
    (:data:`SHARD_BYTES`) is in memory at a time.

    Raises: FileExistsError if ``path`` holds files that this function has not written.
    """
    path = path.absolute()
    if _holds(path, spec):
        return
    _refuse_foreign(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        scratch.chmod(0o755)  # mkdtemp creates it private
        fresh = scratch / "new"
        fresh.mkdir()
        _write_files(fresh, spec)
        _swap_in(fresh, path, spec, retired=scratch / "old")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def hf_config(spec: ModelSpec) -> dict[str, object]:
    """Return the content of ``config.json`` for ``spec``."""
    config: dict[str, object] = {
        "architectures": [_CLASS_NAMES[spec.architecture]],
        "model_type": spec.architecture.value,
        "hidden_size": spec.hidden_size,
        "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads,
        "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size,
        "tie_word_embeddings": spec.tied_embeddings,
        "torch_dtype": spec.dtype,
        "max_position_embeddings": spec.max_position_embeddings,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "pad_token_id": PAD_ID,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
    }
    match spec.architecture:
        case Architecture.LLAMA:
            config |= {"attention_bias": False, "mlp_bias": False}
        case Architecture.QWEN2:
            config |= {"use_sliding_window": False}
        case Architecture.QWEN3:
            config |= {"use_sliding_window": False, "attention_bias": False}
        case Architecture.MISTRAL:
            config |= {"sliding_window": spec.sliding_window}
        case Architecture.MIXTRAL:
            config |= {
                "sliding_window": None,
                "num_local_experts": spec.num_experts,
                "num_experts_per_tok": EXPERTS_PER_TOKEN,
            }
    return config


def _shards(spec: ModelSpec) -> list[list[TensorSpec]]:
    """Cut the tensors, in order, into files of at most :data:`SHARD_BYTES`."""
    shards: list[list[TensorSpec]] = [[]]
    filled_bytes = 0
    for tensor in tensors(spec):
        size_bytes = tensor.num_elements * DTYPE_BYTES[spec.dtype]
        if shards[-1] and filled_bytes + size_bytes > SHARD_BYTES:
            shards.append([])
            filled_bytes = 0
        shards[-1].append(tensor)
        filled_bytes += size_bytes
    return shards


def _write_files(folder: Path, spec: ModelSpec) -> None:
    tokenizer = train_tokenizer(spec.vocab_size)
    save_tokenizer(tokenizer, folder, max_length_tokens=spec.max_position_embeddings)
    _write_weights(folder, spec, quiet_token_ids(tokenizer))
    _write_json(folder / "config.json", hf_config(spec))
    generation: dict[str, object] = {
        "pad_token_id": PAD_ID,
        "bos_token_id": BOS_ID,
        "eos_token_id": EOS_ID,
    }
    _write_json(folder / "generation_config.json", generation)
    _write_json(folder / MARKER, _marker(spec))


def _write_weights(folder: Path, spec: ModelSpec, quiet_ids: list[int]) -> None:
    shards = _shards(spec)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        drawn = {tensor.name: draw(tensor, spec, quiet_ids) for tensor in shard}
        save_file(drawn, folder / name, metadata={"format": "pt"})
        (folder / name).chmod(0o644)  # save_file creates it private
        weight_map |= dict.fromkeys(drawn, name)
    if len(shards) > 1:
        total = {"total_size": weights_bytes(spec)}
        index: dict[str, object] = {"metadata": total, "weight_map": weight_map}
        _write_json(folder / "model.safetensors.index.json", index)


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _marker(spec: ModelSpec) -> dict[str, object]:
    return {"format": _FORMAT, "spec": dataclasses.asdict(spec)}


def _holds(path: Path, spec: ModelSpec) -> bool:
    """Return whether ``path`` is a checkpoint of exactly this spec."""
    try:
        marker = json.loads((path / MARKER).read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False
    return bool(marker == _marker(spec))


def _refuse_foreign(path: Path) -> None:
    """Raise unless ``path`` is free, empty, or a synthetic checkpoint that may be replaced."""
    if not path.exists() or (path / MARKER).exists():
        return
    if not path.is_dir() or any(path.iterdir()):
        raise FileExistsError(
            f"{path} exists and is not a synthetic checkpoint; choose another path"
        )


def _swap_in(fresh: Path, path: Path, spec: ModelSpec, *, retired: Path) -> None:
    """Rename ``fresh`` to ``path``, after moving an older checkpoint to ``retired``."""
    try:
        if (path / MARKER).exists():
            path.rename(retired)
        fresh.rename(path)
    except OSError:
        if not _holds(path, spec):  # else another process has written the same checkpoint
            raise
