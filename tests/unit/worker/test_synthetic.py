"""Synthetic checkpoints: complete, the same every time, and never half-written."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import pytest

from seesaw_worker.synthetic import (
    Architecture,
    ModelSpec,
    checkpoint,
    weights_bytes,
    write_checkpoint,
)
from seesaw_worker.synthetic import (
    tokenizer as tokenizers,
)

SMALL = ModelSpec(
    architecture=Architecture.LLAMA,
    hidden_size=32,
    intermediate_size=48,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    vocab_size=400,
    tied_embeddings=False,
    dtype="float32",
    max_position_embeddings=128,
)


def header(file: Path) -> dict[str, dict[str, object]]:
    """The tensors of a safetensors file: name to dtype and shape."""
    with file.open("rb") as stream:
        (size_bytes,) = struct.unpack("<Q", stream.read(8))
        tensors: dict[str, dict[str, object]] = json.loads(stream.read(size_bytes))
    tensors.pop("__metadata__", None)
    return tensors


def weights(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}


@pytest.mark.parametrize("architecture", list(Architecture))
def test_every_architecture_writes_what_a_hugging_face_loader_reads(
    architecture: Architecture, tmp_path: Path
) -> None:
    num_experts = 2 if architecture is Architecture.MIXTRAL else 0
    spec = dataclasses.replace(SMALL, architecture=architecture, num_experts=num_experts)
    write_checkpoint(tmp_path / "m", spec)

    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["model_type"] == architecture
    tensors = header(tmp_path / "m" / "model.safetensors")
    assert tensors["model.layers.1.self_attn.k_proj.weight"]["shape"] == [16, 32]
    assert ("model.layers.0.self_attn.q_proj.bias" in tensors) == (architecture == "qwen2")
    assert ("model.layers.0.self_attn.q_norm.weight" in tensors) == (architecture == "qwen3")
    assert ("model.layers.0.block_sparse_moe.experts.1.w2.weight" in tensors) == (num_experts == 2)
    assert {p.name for p in (tmp_path / "m").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        checkpoint.MARKER,
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_the_same_spec_gives_the_same_bytes_and_another_seed_other_ones(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", SMALL)
    write_checkpoint(tmp_path / "b", SMALL)
    write_checkpoint(tmp_path / "c", dataclasses.replace(SMALL, seed=1))
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_a_checkpoint_that_is_there_is_left_alone_and_one_of_another_spec_is_replaced(
    tmp_path: Path,
) -> None:
    path = tmp_path / "m"
    write_checkpoint(path, SMALL)
    inode = (path / "config.json").stat().st_ino
    write_checkpoint(path, SMALL)
    assert (path / "config.json").stat().st_ino == inode

    write_checkpoint(path, dataclasses.replace(SMALL, num_layers=3))
    assert json.loads((path / "config.json").read_text())["num_hidden_layers"] == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_somebody_else_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileExistsError, match="not a synthetic checkpoint"):
        write_checkpoint(tmp_path, SMALL)
    assert (tmp_path / "config.json").read_text() == "{}"


def test_an_interrupted_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(tmp_path / "m", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_large_models_are_sharded_and_the_index_names_every_tensor_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 40_000)
    write_checkpoint(tmp_path / "m", SMALL)

    files = sorted((tmp_path / "m").glob("model-*.safetensors"))
    assert len(files) >= 2
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {name: file.name for file in files for name in header(file)}
    assert index["metadata"]["total_size"] == weights_bytes(SMALL)


def test_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "m", dataclasses.replace(SMALL, tied_embeddings=True))
    assert "lm_head.weight" not in header(tmp_path / "m" / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"num_kv_heads": 3}, "num_kv_heads must divide num_heads", id="kv heads"),
        pytest.param({"hidden_size": 30}, "num_heads must divide hidden_size", id="hidden size"),
        pytest.param({"vocab_size": 100}, "vocab_size must be at least", id="vocabulary"),
        pytest.param({"dtype": "int4"}, "dtype must be one of float32", id="dtype"),
        pytest.param({"num_experts": 4}, "only mixtral has experts", id="experts"),
    ],
)
def test_a_spec_that_does_not_fit_together_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("vocab_size", [400, 4096])
def test_the_tokenizer_is_of_the_asked_size_and_any_text_survives_it(vocab_size: int) -> None:
    tokenizer = tokenizers.train_tokenizer(vocab_size)
    text = 'How tall is the Eiffel tower?\n{"metres": 330} – déjà vu 漢字 🎉'
    assert tokenizer.get_vocab_size() == vocab_size
    ids = tokenizer.encode(text).ids
    assert ids[0] == tokenizers.BOS_ID
    assert tokenizer.decode(ids) == text


def test_quiet_tokens_are_the_special_ones_blanks_and_bytes_that_are_no_plain_text() -> None:
    tokenizer = tokenizers.train_tokenizer(400)
    quiet = set(tokenizers.quiet_token_ids(tokenizer))

    def ids(text: str) -> set[int]:
        return set(tokenizer.encode(text, add_special_tokens=False).ids)

    assert {tokenizer.token_to_id(token) for token in tokenizers.SPECIAL_TOKENS} <= quiet
    assert ids("漢") | ids("\n") <= quiet
    assert quiet.isdisjoint(ids('{"name":[12.5,true]}') | ids(" the"))
