"""vLLM's attentions, the GPU's too, keep KV as the buffer wants it under the layout we ask for.

vLLM lays a pool out by a spec and a layout alone, so its own code makes the pools here, on the
CPU, and our pages are saved from one and loaded into another.
"""

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.config import CacheConfig, KVTransferConfig, VllmConfig, set_current_vllm_config
from vllm.v1.attention.backend import AttentionBackend, MultipleOf
from vllm.v1.attention.backends.registry import AttentionBackendEnum
from vllm.v1.attention.backends.utils import get_supported_kv_cache_layouts, resolve_kv_cache_layout
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheTensor,
    compute_layer_kv_cache_shape_bytes,
    create_kv_cache_views,
)
from vllm.v1.kv_cache_layout import KVCacheLayout

from seesaw_core.errors import IntegrityError, UnsupportedError
from seesaw_core.resharding.placement import KvShard, Span
from seesaw_worker.devices.cpu import CpuDevice
from seesaw_worker.modes.resharding import attention
from seesaw_worker.modes.resharding.kv.buffer import KvBuffer, as_pages, create_buffer
from seesaw_worker.modes.resharding.kv.connector import SeesawConnector

NUM_LAYERS, NUM_BLOCKS, HEAD_DIM = 3, 7, 16
CUDA_BACKENDS = ("FLASH_ATTN", "TRITON_ATTN")


def backend(name: str) -> type[AttentionBackend]:
    found: type[AttentionBackend] = AttentionBackendEnum[name].get_class()
    return found


def resolved(names: list[str], monkeypatch: pytest.MonkeyPatch) -> KVCacheLayout:
    """The layout that vLLM's engine core settles on for a worker of ours with these attentions."""
    monkeypatch.delenv("VLLM_KV_CACHE_LAYOUT", raising=False)
    supported = get_supported_kv_cache_layouts([backend(name) for name in names])
    transfer = KVTransferConfig(
        kv_connector="SeesawConnector",
        kv_connector_module_path="seesaw_worker.modes.resharding.kv.connector",
        kv_role="kv_producer",
    )
    config: Any = SimpleNamespace(
        cache_config=SimpleNamespace(kv_cache_layout=None), kv_transfer_config=transfer
    )
    return resolve_kv_cache_layout(config, [[layout.name for layout in supported]])


def pools(
    name: str, layout: KVCacheLayout, heads: int, block_size: int, dtype: torch.dtype
) -> list[torch.Tensor]:
    """One random pool a layer, as vLLM views its memory."""
    spec = backend(name).customize_spec(
        FullAttentionSpec(
            block_size=block_size, num_kv_heads=heads, head_size=HEAD_DIM, dtype=dtype
        )
    )
    shape = compute_layer_kv_cache_shape_bytes(spec, NUM_BLOCKS)
    page = spec.page_size_bytes
    inside = layout.is_layer_compact
    size = NUM_LAYERS * NUM_BLOCKS * page
    assert size == NUM_LAYERS * torch.Size(shape).numel()
    tensor = KVCacheTensor(
        size=size,
        layers=[f"model.layers.{i}.self_attn.attn" for i in range(NUM_LAYERS)],
        layer_stride=page * NUM_BLOCKS if inside else page,
        block_stride=page if inside else page * NUM_LAYERS,
    )
    raw = torch.randint(-128, 128, (size,), dtype=torch.int8)
    views: list[torch.Tensor] = create_kv_cache_views(raw, spec, NUM_BLOCKS, layout, tensor)
    return views


def page_bytes(block_size: int, dtype: torch.dtype) -> int:
    return 2 * block_size * HEAD_DIM * int(dtype.itemsize)


@pytest.mark.parametrize("name", CUDA_BACKENDS)
def test_the_gpus_attentions_get_the_layout_that_the_buffer_needs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolved([name], monkeypatch) is KVCacheLayout.LBHNC
    assert resolved(["FLASH_ATTN", name], monkeypatch).is_block_contiguous


@pytest.mark.parametrize("name", CUDA_BACKENDS)
@pytest.mark.parametrize("layout", [KVCacheLayout.LBHNC, KVCacheLayout.BLHNC])
@pytest.mark.parametrize(
    ("heads", "block_size", "dtype"),
    [
        pytest.param(1, 16, torch.bfloat16, id="one head"),
        pytest.param(2, 16, torch.float32, id="fp32"),
        pytest.param(4, 32, torch.bfloat16, id="blocks of 32"),
        pytest.param(8, 16, torch.float16, id="eight heads"),
        pytest.param(3, 64, torch.uint8, id="fp8"),
    ],
)
def test_pages_of_those_pools_go_through_the_buffer_bit_for_bit(
    name: str,
    layout: KVCacheLayout,
    heads: int,
    block_size: int,
    dtype: torch.dtype,
    tmp_path: Path,
) -> None:
    width = page_bytes(block_size, dtype)
    create_buffer(tmp_path / "kv", 5, NUM_LAYERS * heads * width)
    buffer = KvBuffer(
        tmp_path / "kv", CpuDevice(), num_layers=NUM_LAYERS, num_kv_heads=heads, page_bytes=width
    )
    shard = KvShard(
        layers=Span(start=0, stop=NUM_LAYERS), heads=Span(start=0, stop=heads), writes=True
    )
    saved, loaded = (pools(name, layout, heads, block_size, dtype) for _ in range(2))
    from_blocks, via, to_blocks = (6, 0, 3), (1, 4, 2), (2, 5, 1)
    before = [pool.clone() for pool in loaded]
    for layer, (source, target) in enumerate(zip(saved, loaded, strict=True)):
        buffer.save(
            as_pages(source, num_heads=heads, page_bytes=width),
            layer=layer,
            shard=shard,
            pool_blocks=from_blocks,
            buffer_blocks=via,
        )
        buffer.load(
            as_pages(target, num_heads=heads, page_bytes=width),
            layer=layer,
            shard=shard,
            buffer_blocks=via,
            pool_blocks=to_blocks,
        )
    for source, target, old in zip(saved, loaded, before, strict=True):
        for here, there in zip(from_blocks, to_blocks, strict=True):
            assert torch.equal(source[here].view(torch.uint8), target[there].view(torch.uint8))
        for block in set(range(NUM_BLOCKS)) - set(to_blocks):
            assert torch.equal(old[block].view(torch.uint8), target[block].view(torch.uint8))


@pytest.mark.parametrize("name", CUDA_BACKENDS)
@pytest.mark.parametrize("heads", [2, 8])
def test_a_pool_with_tokens_before_heads_is_refused_with_the_way_out(name: str, heads: int) -> None:
    (pool, *_) = pools(name, KVCacheLayout.LBNHC, heads, 16, torch.bfloat16)
    with pytest.raises(IntegrityError, match=r"HND.*VLLM_KV_CACHE_LAYOUT.*--attention-backend"):
        as_pages(pool, num_heads=heads, page_bytes=page_bytes(16, torch.bfloat16))


def test_attentions_and_variables_that_want_another_layout_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"--attention-backend=FLEX_ATTENTION.*LBNHC"):
        attention.refuse_layouts_of(backend("FLEX_ATTENTION"))
    for name in (*CUDA_BACKENDS, "CPU_ATTN"):
        attention.refuse_layouts_of(backend(name))
    for value in ("NHD", "LBNHC", "BHLNC", "nhd", "nonsense"):
        with pytest.raises(UnsupportedError, match=f"VLLM_KV_CACHE_LAYOUT={value}"):
            attention.refuse_layout_variable(value)
    attention.refuse_layout_variable(None)
    for value in ("", "HND", "LBHNC", "BLHNC", "hnd"):
        attention.refuse_layout_variable(value)


class OddKernels(AttentionBackend):
    """Kernels of fixed sizes, as some of the GPU's attentions have."""

    @classmethod
    def get_supported_kernel_block_sizes(cls, kv_cache_spec: Any = None) -> list[int | MultipleOf]:
        return [8, 64]

    @staticmethod
    def get_name() -> str:
        return "ODD"


@pytest.mark.parametrize("name", CUDA_BACKENDS)
def test_the_block_size_is_the_backends_own_or_the_one_asked_for(name: str) -> None:
    with set_current_vllm_config(VllmConfig()):
        assert attention.block_size_for(backend(name), None) == CacheConfig.DEFAULT_BLOCK_SIZE
        assert attention.block_size_for(backend(name), 64) == 64
        with pytest.raises(UnsupportedError, match=r"--block-size=24.*multiples of 16"):
            attention.block_size_for(backend(name), 24)


def test_no_kernel_cuts_the_blocks_that_are_moved_whole() -> None:
    assert attention.block_size_for(OddKernels, None) == 8  # 16 is two of its blocks
    assert attention.block_size_for(OddKernels, 64) == 64
    with pytest.raises(UnsupportedError, match=r"--block-size=16: ODD.*8, 64"):
        attention.block_size_for(OddKernels, 16)


def test_the_connector_asks_in_vllms_words() -> None:
    utils = importlib.import_module("vllm.config.cache")
    asked = SeesawConnector.get_required_kvcache_layout(VllmConfig())
    assert asked is not None
    assert utils._layout_from_name(asked) is KVCacheLayout.LBHNC
