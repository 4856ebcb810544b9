"""Re-sharded tokens are plain vLLM's, for three pairs of layouts and three models.

Prompts of one to several thousand tokens, block edges included, half greedy and half seeded, in
fp32, while the worker checks every page of KV on arrival (``--verify-kv``).
"""

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import torch
from safetensors.torch import load_file, save_file

from seesaw_cli.serve.local import LocalWorker
from seesaw_core.layouts import Layout
from seesaw_core.messages import ReshardingState
from seesaw_worker.modes.static.reference import Sample, plain_tokens
from seesaw_worker.synthetic import (
    TINY,
    TINY_MISTRAL,
    TINY_MIXTRAL,
    TINY_MQA,
    TINY_QWEN3,
    ModelSpec,
    write_checkpoint,
)
from support.worker_states import resharding

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MAX_LEN = 4096
BLOCK = 32
NUM_PROMPTS = 200
EDGES = (1, 2, *(n * BLOCK + d for n in (1, 2, 4, 16, 64) for d in (-1, 0, 1)), 3000, 4000)
P2, T2 = Layout(pipeline=2), Layout(tensor=2)
ENGINE = {
    "dtype": "float32",
    "max_model_len": MAX_LEN,
    "block_size": BLOCK,
    "generation_config": "vllm",
    "kv_cache_memory_bytes": 128 << 20,
    "max_num_seqs": 16,
}
MODELS = {"llama-gqa": TINY, "qwen3-gqa-uneven-stages": TINY_QWEN3, "llama-mqa": TINY_MQA}
# Each draws another workload, so that no one lucky set of prompts stands for all.
PAIRS = {(P2, T2): 1, (T2, P2): 2, (T2, T2): 3}


def samples_of(seed: int, count: int = NUM_PROMPTS) -> list[Sample]:
    rng = random.Random(seed)
    lengths = [*EDGES]
    while len(lengths) < count:
        lengths.append(min(MAX_LEN - 64, 1 + int(rng.lognormvariate(4.6, 1.3))))
    samples = []
    for index, length in enumerate(lengths[:count]):
        greedy: dict[str, Any] = {"temperature": 0.0}
        seeded: dict[str, Any] = {"temperature": 0.9, "top_p": 0.95, "seed": seed * 1000 + index}
        params = (greedy if index % 2 else seeded) | {
            "max_tokens": rng.choice((1, 2, 8, 24)),
            "ignore_eos": True,
        }
        prompt = [rng.randrange(10, 900) for _ in range(length)]
        samples.append(Sample(prompt=prompt, params=params))
    return samples


def worker_flags(prefill: Layout, decode: Layout, engine: dict[str, Any]) -> list[str]:
    return [
        f"--prefill-tensor-parallel-size={prefill.tensor}",
        f"--prefill-pipeline-parallel-size={prefill.pipeline}",
        f"--decode-tensor-parallel-size={decode.tensor}",
        f"--decode-pipeline-parallel-size={decode.pipeline}",
        "--reshard=always",
        "--kv-buffer-gib=0.05",
        "--flush-timeout-s=1",
        "--verify-kv",
        "--enforce-eager",
        "--max-num-batched-tokens=512",  # prompts are prefilled in chunks, plain vLLM's are not
        *(f"--{name.replace('_', '-')}={value}" for name, value in engine.items()),
    ]


async def ask_all(url: str, model: str, samples: list[Sample]) -> list[list[int]]:
    rng = random.Random(7)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as http:

        async def ask(sample: Sample, delay_s: float) -> list[int]:
            await asyncio.sleep(delay_s)
            body = {"model": model, "prompt": sample.prompt, "return_token_ids": True}
            async with http.post(f"{url}/v1/completions", json=body | sample.params) as response:
                answer = await response.json()
                assert response.status == 200, answer
                tokens: list[int] = answer["choices"][0]["token_ids"]
                return tokens

        return await asyncio.gather(*(ask(s, rng.random() * 3) for s in samples))


def reshard(
    model: Path,
    pair: tuple[Layout, Layout],
    samples: list[Sample],
    engine: dict[str, Any],
    folder: Path,
    *flags: str,
) -> tuple[list[list[int]], ReshardingState]:
    flags = (*worker_flags(*pair, engine), *flags)
    with LocalWorker(model, flags, log=folder / "worker.log") as worker:
        tokens = asyncio.run(ask_all(worker.url, worker.model, samples))
        return tokens, resharding(worker.state())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]}-to-{pair[1]}")
def test_fp32_tokens_equal_plain_vllms(
    name: str, pair: tuple[Layout, Layout], tmp_path: Path
) -> None:
    spec: ModelSpec = MODELS[name]
    model = tmp_path / name
    write_checkpoint(model, replace(spec, max_position_embeddings=MAX_LEN))
    samples = samples_of(PAIRS[pair])
    tokens, state = reshard(model, pair, samples, ENGINE, tmp_path)
    expected = plain_tokens(model, pair[1], samples, ENGINE, tmp_path)
    differing = [
        (len(s.prompt), s.params)
        for s, ours, theirs in zip(samples, tokens, expected, strict=True)
        if ours != theirs
    ]
    assert differing == []
    assert state.paths.reshard_requests == sum(len(s.prompt) > 1 for s in samples)
    assert state.transitions >= 4
    assert state.buffer is not None
    assert state.buffer.blocks.free == state.buffer.blocks.capacity


@pytest.mark.parametrize("form", ["bf16", "int8"])
def test_rounded_forms_differ_no_more_than_plain_layouts_do(form: str, tmp_path: Path) -> None:
    """In bf16, and with activations in int8, plain vLLM's own TP and PP differ; so may we."""
    model = tmp_path / "llama"
    write_checkpoint(model, replace(TINY, max_position_embeddings=MAX_LEN))
    engine = ENGINE | {"dtype": "bfloat16"}
    if form == "int8":
        quantize(model)
        engine["dtype"] = "float32"
    samples = [s for s in samples_of(5, 100) if s.params["temperature"] == 0.0]
    tokens, state = reshard(model, (P2, T2), samples, engine, tmp_path)
    plain = {str(at): plain_tokens(model, at, samples, engine, tmp_path) for at in (P2, T2)}

    def num_differing(a: list[list[int]], b: list[list[int]]) -> int:
        return sum(x != y for x, y in zip(a, b, strict=True))

    own = num_differing(plain["P2"], plain["T2"])
    ours = num_differing(tokens, plain["T2"])
    print(f"{form}: of {len(samples)} answers {ours} differ; of plain vLLM's in P2 and T2, {own}")
    assert state.paths.reshard_requests > 40
    assert own > 0, "nothing is rounded here, so this shows nothing"
    assert ours <= own


def quantize(model: Path) -> None:
    """Make a checkpoint's linear layers int8, as compressed-tensors' W8A8 has them."""
    path = model / "model.safetensors"
    tensors = {}
    for name, weight_OI in load_file(path).items():
        if "_proj." not in name:
            tensors[name] = weight_OI
            continue
        scale_O1 = weight_OI.float().abs().amax(dim=1, keepdim=True) / 127
        tensors[name] = (weight_OI / scale_O1).round().to(torch.int8)
        tensors[name.replace(".weight", ".weight_scale")] = scale_O1
    save_file(tensors, path, metadata={"format": "pt"})
    (model / "model.safetensors.index.json").unlink(missing_ok=True)
    eight_bits = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": eight_bits | {"strategy": "channel"},
        "input_activations": eight_bits | {"strategy": "token", "dynamic": True},
    }
    config = json.loads((model / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
    }
    (model / "config.json").write_text(json.dumps(config))


# What else changes how KV is laid out or which of it is read: few prompts of each.
VARIANTS: dict[str, tuple[ModelSpec, tuple[str, ...]]] = {
    "sliding-window": (TINY_MISTRAL, ()),
    "mixture-of-experts": (TINY_MIXTRAL, ()),
    "resident-weights": (TINY, ("--weights=resident",)),
    "prefix-shared": (TINY, ("--enable-prefix-caching",)),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_fp32_tokens_equal_plain_vllms_in_every_variant(name: str, tmp_path: Path) -> None:
    spec, flags = VARIANTS[name]
    model = tmp_path / name
    write_checkpoint(model, replace(spec, max_position_embeddings=MAX_LEN))
    samples = samples_of(6, 60)
    if name == "prefix-shared":
        shared = samples[-1].prompt[:40] * 5
        samples = [replace(s, prompt=(shared + s.prompt)[: MAX_LEN - 64]) for s in samples]
    tokens, state = reshard(model, (P2, T2), samples, ENGINE, tmp_path, *flags)
    expected = plain_tokens(model, T2, samples, ENGINE, tmp_path)
    differing = [
        len(s.prompt)
        for s, ours, theirs in zip(samples, tokens, expected, strict=True)
        if ours != theirs
    ]
    assert differing == []
    assert state.paths.reshard_requests > 50
