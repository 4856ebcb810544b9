"""The layout of the KV pool in vLLM's attention, chosen once for both engines.

A block in the buffer is a block of both pools, and a page is the contiguous part of that block
that belongs to one KV head. So both engines must keep the same number of tokens in a block, no
kernel may cut a block into smaller ones, and within a block heads must come before tokens.
"""

import os

from vllm.config import CacheConfig, VllmConfig, set_current_vllm_config
from vllm.platforms import current_platform
from vllm.v1.attention.backend import AttentionBackend, MultipleOf
from vllm.v1.attention.selector import get_attn_backend
from vllm.v1.kv_cache_layout import KVCacheLayout

from seesaw_core.errors import UnsupportedError
from seesaw_worker.upstream.refusals import refusals

REQUIRED_LAYOUT = "HND"
"""vLLM's older name for ``LBHNC``: layers, blocks, heads, tokens, content."""

_LAYOUT_VARIABLE = "VLLM_KV_CACHE_LAYOUT"
_ACCEPTED = frozenset(
    {REQUIRED_LAYOUT, *(layout.name for layout in KVCacheLayout if layout.is_block_contiguous)}
)


def choose_block_size(config: VllmConfig) -> int:
    """Return the number of tokens in a block of both pools and of the buffer.

    Raises: UnsupportedError if the attention or the environment requires another layout of the
    pool, or if the attention cuts blocks of the requested size.
    """
    refuse_layout_variable(os.environ.get(_LAYOUT_VARIABLE))
    cache = config.cache_config
    if current_platform.is_cpu():
        return int(cache.block_size)  # refuse_cache_settings has checked it
    backend = _backend_of(config)
    for used in (backend, *_by_kind(config)):
        refuse_layouts_of(used)
    requested = int(cache.block_size) if cache.user_specified_block_size else None
    with set_current_vllm_config(config):
        return block_size_for(backend, requested)


def block_size_for(backend: type[AttentionBackend], requested: int | None) -> int:
    """Return the requested size, or the backend's own.

    Raises: UnsupportedError if the backend's kernels would cut blocks of the requested size.
    """
    sizes = backend.get_supported_kernel_block_sizes()
    size: int = requested or backend.get_preferred_block_size(CacheConfig.DEFAULT_BLOCK_SIZE)
    if not sizes or any(_is_whole(size, kernel) for kernel in sizes):
        return size
    whole = ", ".join(
        f"multiples of {kernel.base}" if isinstance(kernel, MultipleOf) else str(kernel)
        for kernel in sizes
    )
    if requested is None:
        smallest: int = min(k.base if isinstance(k, MultipleOf) else k for k in sizes)
        return smallest
    raise UnsupportedError(
        f"--block-size={requested}: {backend.get_name()} would cut such blocks, which re-sharding "
        f"moves whole; give one of its own sizes ({whole}), drop the flag, or use --reshard never"
    )


def refuse_layouts_of(backend: type[AttentionBackend]) -> None:
    """Raises: UnsupportedError if the backend cannot keep each head's part of a block together."""
    layouts = backend.supported_kv_cache_layouts()
    if layouts is not None and KVCacheLayout.LBHNC not in layouts:
        names = ", ".join(layout.name for layout in layouts)
        raise UnsupportedError(
            f"--attention-backend={backend.get_name()} keeps its KV pool as {names} only, and "
            f"re-sharding needs {KVCacheLayout.LBHNC.name} ({REQUIRED_LAYOUT}); choose another "
            "backend, such as FLASH_ATTN or TRITON_ATTN, or use --reshard never"
        )


def refuse_layout_variable(value: str | None) -> None:
    """Raises: UnsupportedError if the environment sets a layout in which pages are scattered."""
    if value and value.upper() not in _ACCEPTED:
        raise UnsupportedError(
            f"{_LAYOUT_VARIABLE}={value}: re-sharding needs a KV pool whose blocks keep each head "
            f"together; unset it, set one of {', '.join(sorted(_ACCEPTED))}, or use "
            "--reshard never"
        )


def _backend_of(config: VllmConfig) -> type[AttentionBackend]:
    model = config.model_config
    with refusals(), set_current_vllm_config(config):
        backend: type[AttentionBackend] = get_attn_backend(
            model.get_head_size(),
            model.dtype,
            config.cache_config.cache_dtype,
            num_heads=model.get_num_attention_heads(config.parallel_config),
            has_sliding_window=model.get_sliding_window() is not None,
        )
    return backend


def _by_kind(config: VllmConfig) -> list[type[AttentionBackend]]:
    """Return the backends that were chosen for kinds of layers, such as sliding windows."""
    with refusals():
        return [named.get_class() for named in config.attention_config.backend_per_kind.values()]


def _is_whole(size: int, kernel: int | MultipleOf) -> bool:
    """Return whether a kernel takes blocks of a size without cutting them."""
    return size % kernel.base == 0 if isinstance(kernel, MultipleOf) else size == kernel
