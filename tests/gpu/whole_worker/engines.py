"""A worker of the check, and plain vLLM beside it: flags, environment, requests."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from gpu.whole_worker.plan import Options
from integration.worker.test_exactness import samples_of
from seesaw_cli.serve.local import LocalWorker
from seesaw_core.layouts import LayoutPair
from seesaw_worker.modes.static.reference import Sample
from seesaw_worker.synthetic import TINY, ModelSpec, write_checkpoint

MAX_LEN = 2048
SEED = 11
# 1.2 GB in bf16, with heads that FlashAttention takes.
LARGE = replace(
    TINY,
    hidden_size=2048,
    intermediate_size=5632,
    num_layers=12,
    num_heads=16,
    num_kv_heads=8,
    head_dim=128,
    vocab_size=8192,
    dtype="bfloat16",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where a step works, and on what."""

    options: Options
    folder: Path

    def model(self, dtype: str = "float32") -> Path:
        """The checkpoint, made anew: small, or large enough that copies take time."""
        spec: ModelSpec = replace(
            LARGE if self.options.large else TINY, dtype=dtype, max_position_embeddings=MAX_LEN
        )
        path = self.folder / f"model-{dtype}"
        if not path.exists():
            write_checkpoint(path, spec)
        return path

    def samples(self) -> list[Sample]:
        short = samples_of(SEED, self.options.num_samples)
        return [replace(s, prompt=s.prompt[: MAX_LEN - 64]) for s in short]


def engine_arguments(options: Options, dtype: str) -> dict[str, Any]:
    """vLLM's arguments that worker and reference share."""
    return {
        "dtype": dtype,
        "max_model_len": MAX_LEN,
        "generation_config": "vllm",
        "max_num_seqs": 16,
        "kv_cache_memory_bytes": (2 << 30) if options.gpus else (128 << 20),
        **({} if options.gpus else {"block_size": 32}),
    }


def sharing(options: Options, num_devices: int) -> tuple[list[str], dict[str, str]]:
    """Flags and environment that let two ranks run on one GPU: for correctness only."""
    if not options.gpus or num_devices <= options.gpus:
        return [], {}
    ids = ["+0", "-0"][:num_devices]
    flags = [f"--device-ids={','.join(ids)}", "--disable-custom-all-reduce"]
    return flags, {"NCCL_MULTI_RANK_GPU_ENABLE": "1", "VLLM_ALLREDUCE_USE_SYMM_MEM": "0"}


def flags_of(options: Options, pair: LayoutPair, dtype: str, *, mode: str = "eager") -> list[str]:
    engine = engine_arguments(options, dtype)
    shared, _ = sharing(options, pair.decode.num_devices)
    return [
        f"--prefill-tensor-parallel-size={pair.prefill.tensor}",
        f"--prefill-pipeline-parallel-size={pair.prefill.pipeline}",
        f"--decode-tensor-parallel-size={pair.decode.tensor}",
        f"--decode-pipeline-parallel-size={pair.decode.pipeline}",
        "--reshard=always",
        "--kv-buffer-gib=0.5" if options.gpus else "--kv-buffer-gib=0.05",
        "--flush-timeout-s=1",
        "--verify-kv",
        "--always-replay-weights",
        "--max-num-batched-tokens=512",
        *(["--enforce-eager"] if mode == "eager" else []),
        *(f"--{name.replace('_', '-')}={value}" for name, value in engine.items()),
        *shared,
    ]


@contextmanager
def worker_of(
    context: Context, model: Path, flags: Sequence[str], num_devices: int
) -> Iterator[LocalWorker]:
    """A healthy worker, ended afterwards."""
    os.environ.update(sharing(context.options, num_devices)[1])
    worker = LocalWorker(model, flags, log=context.folder / "worker.log")
    try:
        worker.launch()
        worker.wait_until_healthy()
        yield worker
    finally:
        worker.stop()


def margin_of(url: str, model: str, sample: Sample, ours: list[int], theirs: list[int]) -> float:
    """How far apart the two tokens are where the answers part, as log-probabilities."""
    at = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    prompt = sample.prompt + ours[:at]
    body = {"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 2}

    async def ask() -> dict[str, float]:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/v1/completions", json=body) as response,
        ):
            answer = await response.json()
            top: dict[str, float] = answer["choices"][0]["logprobs"]["top_logprobs"][0]
            return top

    best, second = sorted(asyncio.run(ask()).values(), reverse=True)[:2]
    return best - second
