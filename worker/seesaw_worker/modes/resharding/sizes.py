"""Divides a worker's memory among buffer, arenas and pools, and refuses what does not fit."""

import dataclasses
import math
from collections import Counter
from pathlib import Path

import psutil
from vllm.config import VllmConfig
from vllm.platforms import current_platform
from vllm.platforms.interface import set_assigned_physical_gpu_ids
from vllm.utils.torch_utils import STR_DTYPE_TO_TORCH_DTYPE

from seesaw_core.errors import CapacityError
from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.process_memory import processes_bytes
from seesaw_core.units import GIB
from seesaw_worker.modes.resharding import device_memory
from seesaw_worker.modes.resharding.device_memory import DeviceNeeds, EngineReserve
from seesaw_worker.settings.engine import WeightsMode
from seesaw_worker.settings.worker import WorkerSettings

# Device memory of a process. Source: aiconfigurator-core 0.12 (PyPI) measured 551 MB for the CUDA
# context with its kernels, and 342 to 392 MB for NCCL; the custom all-reduce's buffers come on top.
_CONTEXT_BYTES = 640 << 20
_COMMUNICATOR_BYTES = 512 << 20
_GRAPH_BYTES_A_LAYER = 24 << 20  # an assumption, on the generous side


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Memory that the worker takes. Units: bytes; pools and arenas per device.

    The shares of a GPU's memory are for vLLM's check at the start. They are None on the CPU.
    """

    buffer_bytes: int
    arena_bytes: tuple[int, ...]
    prefill_pool_bytes: int
    decode_pool_bytes: int
    prefill_share: float | None = None
    decode_share: float | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Sizes that are known before that of the decode pool. Units: bytes; ``_tokens`` in tokens."""

    buffer_bytes: int
    arenas: tuple[int, ...]
    prefill_tokens: int
    block_bytes: int
    block_size: int

    def prefill_pool_bytes(self, layout: Layout, shape: ModelShape) -> int:
        """Return the prefill pool per device, with a block that vLLM reserves and a spare one."""
        blocks = -(-self.prefill_tokens // self.block_size) + 2
        return _device_share(layout, shape, blocks, self.block_bytes)

    def pool_bytes_for(self, layout: Layout, shape: ModelShape, num_tokens: int) -> int:
        """Return the pool per device that holds the KV of one request of ``num_tokens``."""
        blocks = -(-num_tokens // self.block_size)
        return _device_share(layout, shape, blocks, self.block_bytes)


def arenas_in_shared_memory() -> bool:
    """Return whether the weights arenas are in shared memory rather than on GPUs."""
    return bool(current_platform.is_cpu())


def divide_memory(settings: WorkerSettings, config: VllmConfig, parts: Parts) -> Sizes:
    """Divide the memory, and refuse what does not fit. Raises: CapacityError."""
    if current_platform.is_cpu():
        return _divide_main_memory(settings, config, parts)
    return _divide_devices(
        settings, config, parts, _device_bytes(config, settings.decode.num_devices)
    )


def _divide_main_memory(settings: WorkerSettings, config: VllmConfig, parts: Parts) -> Sizes:
    num_devices = settings.decode.num_devices
    shape = shape_of(config)
    prefill_pool = parts.prefill_pool_bytes(settings.prefill, shape)
    requested, requested_by = requested_pool(settings, config, parts)
    decode_pool = requested
    taken = parts.buffer_bytes + sum(parts.arenas) + num_devices * prefill_pool
    taken += processes_bytes(num_devices)
    left = available_bytes() - taken
    model_len = config.model_config.max_model_len
    if decode_pool is None:
        most = parts.pool_bytes_for(
            settings.decode,
            shape,
            config.scheduler_config.max_num_seqs * model_len + 2 * parts.block_size,
        )
        decode_pool = min(most, int(left * 0.6) // num_devices)
    least = parts.pool_bytes_for(settings.decode, shape, model_len)
    if requested is not None and decode_pool < least:
        raise device_memory.pool_too_small(requested_by, model_len, least)
    if left < num_devices * decode_pool or decode_pool < least:
        pools = num_devices * max(decode_pool, least)
        raise CapacityError(
            f"{available_bytes() / GIB:.1f} GiB of memory are available, but the worker takes at "
            f"least {(taken + pools) / GIB:.1f} GiB: KV buffer {parts.buffer_bytes / GIB:.2f}, "
            f"weights arenas {sum(parts.arenas) / GIB:.2f}, prefill pools "
            f"{num_devices * prefill_pool / GIB:.2f}, decode pools {pools / GIB:.2f}, processes "
            "the rest; lower --kv-buffer-gib, --max-model-len or --kv-cache-memory-bytes"
        )
    return Sizes(
        buffer_bytes=parts.buffer_bytes,
        arena_bytes=parts.arenas,
        prefill_pool_bytes=prefill_pool,
        decode_pool_bytes=decode_pool,
    )


def _divide_devices(
    settings: WorkerSettings, config: VllmConfig, parts: Parts, device: tuple[int, int]
) -> Sizes:
    """Divide the memory of GPUs. ``device``: its bytes, and how many ranks share it."""
    shape = shape_of(config)
    requested, requested_by = requested_pool(settings, config, parts)
    if settings.weights is WeightsMode.RESIDENT and requested is None:
        raise CapacityError(
            "--weights=resident: how much two copies of the weights take is known only once both "
            "are loaded; set the size of the decode pool with --kv-cache-memory-bytes, or use "
            "--weights shared"
        )
    shares = device_memory.divide_device(
        DeviceNeeds(
            device_bytes=device[0],
            num_sharers=device[1],
            utilization=config.cache_config.gpu_memory_utilization,
            arena_bytes=max(parts.arenas),
            prefill=reserve_of(settings.prefill, config, has_graphs=False),
            decode=reserve_of(
                settings.decode, config, has_graphs=not config.model_config.enforce_eager
            ),
            prefill_pool_bytes=parts.prefill_pool_bytes(settings.prefill, shape),
            least_decode_pool_bytes=parts.pool_bytes_for(
                settings.decode, shape, config.model_config.max_model_len + parts.block_size
            ),
            max_model_len=config.model_config.max_model_len,
            decode_pool_bytes=requested,
            requested_by=requested_by,
        )
    )
    return Sizes(
        buffer_bytes=parts.buffer_bytes,
        arena_bytes=parts.arenas,
        prefill_pool_bytes=shares.prefill_pool_bytes,
        decode_pool_bytes=shares.decode_pool_bytes,
        prefill_share=shares.prefill_share,
        decode_share=shares.decode_share,
    )


def requested_pool(
    settings: WorkerSettings, config: VllmConfig, parts: Parts
) -> tuple[int | None, str]:
    """Return the size of the decode pool per device if the user set it, and the flag for it."""
    blocks, pool = (
        config.cache_config.num_gpu_blocks_override,
        config.cache_config.kv_cache_memory_bytes,
    )
    if blocks is not None:
        pool = _device_share(settings.decode, shape_of(config), blocks, parts.block_bytes)
        return pool, f"--num-gpu-blocks-override={blocks}"
    return pool, "--kv-cache-memory-bytes" + ("" if pool is None else f"={pool}")


def reserve_of(layout: Layout, config: VllmConfig, *, has_graphs: bool) -> EngineReserve:
    """Estimate, generously, what one rank takes beside weights and KV.

    The feed-forward part of a layer takes the most; in the last stage, sampling in fp32 adds to it.
    """
    text = config.model_config.hf_text_config
    hidden = config.model_config.get_hidden_size()
    wide = int(getattr(text, "intermediate_size", None) or 4 * hidden)
    routed = int(getattr(text, "moe_intermediate_size", None) or 0)
    wide = max(wide, routed * int(getattr(text, "num_experts_per_tok", None) or 1))
    tokens = config.scheduler_config.max_num_batched_tokens
    item = int(config.model_config.dtype.itemsize)
    logits = 3 * config.scheduler_config.max_num_seqs * config.model_config.get_vocab_size() * 4
    layers = -(-shape_of(config).num_layers // layout.pipeline)
    work = tokens * item * (6 * hidden + 3 * wide // layout.tensor) + logits
    return EngineReserve(
        context_bytes=_CONTEXT_BYTES + (_COMMUNICATOR_BYTES if layout.num_devices > 1 else 0),
        work_bytes=work + (layers * _GRAPH_BYTES_A_LAYER if has_graphs else 0),
    )


def _device_bytes(config: VllmConfig, num_devices: int) -> tuple[int, int]:
    """Return the memory of the smallest device, and the most ranks of one engine on a device."""
    ids = config.parallel_config.assigned_physical_gpu_ids
    if ids:
        set_assigned_physical_gpu_ids(ids)  # else vLLM numbers devices by their visibility
    sharers = max(Counter(ids).values()) if ids else 1
    totals = [int(current_platform.get_device_total_memory(rank)) for rank in range(num_devices)]
    return min(totals), sharers


def at_least_gib(num_bytes: int) -> str:
    """Return ``num_bytes`` in GiB, rounded up, for the advice in a message."""
    digits = 3
    while num_bytes * 10**digits < GIB:
        digits += 1
    return f"{math.ceil(num_bytes * 10**digits / GIB) / 10**digits:.{digits}f}"


def available_bytes() -> int:
    """Return the main memory that this container may still take."""
    available = int(psutil.virtual_memory().available)
    for limit, usage in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            left = int(Path(limit).read_text()) - int(Path(usage).read_text())
        except (OSError, ValueError):
            continue
        available = min(available, left)
    return available


def _device_share(layout: Layout, shape: ModelShape, blocks: int, block_bytes: int) -> int:
    """Return the bytes of ``blocks`` blocks on the device that holds the largest part of each."""
    layers = -(-shape.num_layers // layout.pipeline)
    heads = max(1, shape.num_kv_heads // layout.tensor)
    page = block_bytes // (shape.num_layers * shape.num_kv_heads)
    return blocks * layers * heads * page


def kv_item_bytes(config: VllmConfig) -> int:
    kv_dtype = config.cache_config.cache_dtype
    if kv_dtype == "auto":
        return int(config.model_config.dtype.itemsize)
    return int(STR_DTYPE_TO_TORCH_DTYPE[kv_dtype].itemsize)


def shape_of(config: VllmConfig) -> ModelShape:
    """Return the model's shape as vLLM reports it."""
    model = config.model_config
    return ModelShape(
        num_layers=model.get_total_num_hidden_layers(),
        num_heads=model.model_arch_config.total_num_attention_heads,
        num_kv_heads=model.get_total_num_kv_heads(),
        head_dim=model.get_head_size(),
    )
