"""The workload of one round of the benchmark, and the memory that it takes."""

import json
from dataclasses import dataclass
from pathlib import Path

from seesaw_core.errors import InputError, ModelError
from seesaw_core.layouts import Layout
from seesaw_flags.files import read_text

PREFILL = Layout(pipeline=2)
DECODE = Layout(tensor=2)

_BLOCK_TOKENS = 128
_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Units: tokens. ``entries`` prompts stay in the KV buffer, to be loaded repeatedly.

    rounds: how often everything is measured, after one more round that is discarded.
    batch, context, decoded: the steady batch, its mean context, and the tokens of each request.
    prompts, prompt: number and length of the prompts of one prefill measurement.
    waiting, waiting_prompt: number and length of the prompts that wait when a transition begins.
    entries, entry: number and length of the prompts whose KV is loaded while decoding.
    chunk: the largest number of tokens in a step.
    """

    rounds: int
    batch: int = 16
    context: int = 256
    decoded: int = 64
    prompts: int = 4
    prompt: int = 512
    waiting: int = 2
    waiting_prompt: int = 256
    entries: int = 4
    entry: int = 512
    chunk: int = 512

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InputError(f"--rounds must be at least 1, got {self.rounds}")

    @classmethod
    def quick(cls, rounds: int) -> "Workload":
        """Return a workload that is small enough for a test."""
        return cls(
            rounds=rounds, batch=4, context=64, prompts=4, prompt=256, waiting_prompt=64, entry=128
        )

    @property
    def max_len(self) -> int:
        longest = max(self.context + 8 * self.decoded, self.prompt, self.entry, self.waiting_prompt)
        return longest + _BLOCK_TOKENS

    @property
    def max_seqs(self) -> int:
        return self.batch + 16

    @property
    def buffer_tokens(self) -> int:
        """Tokens in the KV buffer at a time, with room for partial blocks."""
        parts = (
            (self.entries, self.entry),
            (self.prompts, self.prompt),
            (self.waiting, self.waiting_prompt),
        )
        return sum(count * (tokens + _BLOCK_TOKENS) for count, tokens in parts) * 2

    @property
    def prefill_pool_tokens(self) -> int:
        """Tokens in a worker's prefill pool: the longest prompt and the chunks in flight."""
        return self.max_len + self.chunk * (PREFILL.pipeline + 1)

    @property
    def pool_tokens(self) -> int:
        """Tokens in a decode pool at a time: the batch and the KV that is loaded."""
        each = self.context + 2 * self.decoded + 2 * _BLOCK_TOKENS
        return self.batch * each + 8 * (self.entry + _BLOCK_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """The sizes of a model. Units: bytes; ``token_bytes`` is one token's KV in all layers."""

    dtype: str
    token_bytes: int
    weights_bytes: int

    @classmethod
    def read(cls, model: Path) -> "ModelFacts":
        """Read the facts of a local checkpoint. Raises: ModelError."""
        try:
            config = json.loads(read_text(model / "config.json", flag="--model"))
            heads = config["num_attention_heads"]
            kv_heads = config.get("num_key_value_heads") or heads
            head_dim = config.get("head_dim") or config["hidden_size"] // heads
            dtype = config.get("torch_dtype") or config.get("dtype") or "bfloat16"
            elements = config["num_hidden_layers"] * kv_heads * head_dim * 2
            token_bytes = int(elements * _ITEM_BYTES[dtype])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{model}: the size of its KV cannot be computed from its config.json"
            ) from error
        files = list(model.glob("*.safetensors"))
        if not files:
            raise ModelError(f"{model} holds no *.safetensors files")
        return cls(
            dtype=dtype,
            token_bytes=token_bytes,
            weights_bytes=sum(file.stat().st_size for file in files),
        )
