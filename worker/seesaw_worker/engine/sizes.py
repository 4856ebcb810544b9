"""How a worker's memory is divided, and what does not fit."""

import dataclasses
import math
from pathlib import Path

import psutil
from vllm.config import VllmConfig
from vllm.platforms import current_platform
from vllm.utils.torch_utils import STR_DTYPE_TO_TORCH_DTYPE

from seesaw_core.errors import CapacityError
from seesaw_core.layouts import Layout, ModelShape
from seesaw_worker.engine.mends import QUEUE_CHUNK_BYTES
from seesaw_worker.settings import WorkerSettings
from seesaw_worker.shm import GIB

_PROCESS_BYTES = 700 << 20
_QUEUE_CHUNKS = 10
_GROUP_CHUNKS = 6
_COLLECTIVE_BYTES = (4 << 20) + 256


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Memory that the worker takes. Units: bytes; pools and arenas per device."""

    buffer_bytes: int
    arena_bytes: tuple[int, ...]
    prefill_pool_bytes: int
    decode_pool_bytes: int | None

    @property
    def shared_bytes(self) -> int:
        return self.buffer_bytes + sum(self.arena_bytes)


def divide_memory(
    settings: WorkerSettings,
    config: VllmConfig,
    *,
    buffer_bytes: int,
    arenas: tuple[int, ...],
    prefill_tokens: int,
    block_bytes: int,
) -> Sizes:
    """Divide the memory, and refuse what does not fit. Raises: CapacityError."""
    num_devices = settings.decode.num_devices
    block_size = config.cache_config.block_size
    blocks = -(-prefill_tokens // block_size) + 2
    prefill_pool = _device_share(settings.prefill, config, blocks, block_bytes)
    decode_pool = config.cache_config.kv_cache_memory_bytes
    if not current_platform.is_cpu():
        return Sizes(
            buffer_bytes=buffer_bytes,
            arena_bytes=arenas,
            prefill_pool_bytes=prefill_pool,
            decode_pool_bytes=decode_pool,
        )
    taken = buffer_bytes + sum(arenas) + num_devices * prefill_pool
    taken += (2 * num_devices + 3) * _PROCESS_BYTES
    left = available_bytes() - taken
    if decode_pool is None:
        most_tokens = config.scheduler_config.max_num_seqs * config.model_config.max_model_len
        most = _device_share(
            settings.decode, config, -(-most_tokens // block_size) + 2, block_bytes
        )
        decode_pool = min(most, int(left * 0.6) // num_devices)
    least = _least_pool_bytes(settings.decode, config, block_bytes)
    if config.cache_config.kv_cache_memory_bytes is not None and decode_pool < least:
        raise CapacityError(
            f"--kv-cache-memory-bytes={decode_pool} cannot hold one request of --max-model-len="
            f"{config.model_config.max_model_len} tokens, which takes {least} bytes on a device; "
            "raise the one or lower the other"
        )
    if left < num_devices * decode_pool or decode_pool < least:
        pools = num_devices * max(decode_pool, least)
        raise CapacityError(
            f"{available_bytes() / GIB:.1f} GiB of memory are available, but the worker takes at "
            f"least {(taken + pools) / GIB:.1f} GiB: KV buffer {buffer_bytes / GIB:.2f}, weights "
            f"arenas {sum(arenas) / GIB:.2f}, prefill pools "
            f"{num_devices * prefill_pool / GIB:.2f}, decode pools {pools / GIB:.2f}, processes "
            "the rest; lower --kv-buffer-gib, --max-model-len or --kv-cache-memory-bytes"
        )
    return Sizes(
        buffer_bytes=buffer_bytes,
        arena_bytes=arenas,
        prefill_pool_bytes=prefill_pool,
        decode_pool_bytes=decode_pool,
    )


def vllm_shared_bytes(layout: Layout) -> int:
    """Shared memory of vLLM's own that one engine takes in ``/dev/shm``, reserved at the start.

    A queue from the core to all ranks and one back from each, one in each tensor-parallel group,
    and on the CPU what the collectives of a group copy through, for each rank.
    Source: ``MultiprocExecutor``, ``GroupCoordinator`` and ``csrc/cpu/shm.cpp`` of vLLM 0.32.
    """
    ranks = layout.num_devices
    num_chunks = _QUEUE_CHUNKS * (1 + ranks)
    if layout.tensor > 1:
        num_chunks += _GROUP_CHUNKS * layout.pipeline
    num_groups = (layout.tensor > 1) + (layout.pipeline > 1) if current_platform.is_cpu() else 0
    queues = num_chunks * (QUEUE_CHUNK_BYTES + 1 + ranks)
    return queues + num_groups * ranks * _COLLECTIVE_BYTES


def at_least_gib(num_bytes: int) -> str:
    """GiB to ask for so that ``num_bytes`` fit: rounded up, never to zero."""
    digits = 3
    while num_bytes * 10**digits < GIB:
        digits += 1
    return f"{math.ceil(num_bytes * 10**digits / GIB) / 10**digits:.{digits}f}"


def available_bytes() -> int:
    """Main memory that this container may still take."""
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


def _least_pool_bytes(layout: Layout, config: VllmConfig, block_bytes: int) -> int:
    """Bytes of pool that one request of the greatest length takes on a device."""
    blocks = -(-config.model_config.max_model_len // config.cache_config.block_size)
    return _device_share(layout, config, blocks, block_bytes)


def _device_share(layout: Layout, config: VllmConfig, blocks: int, block_bytes: int) -> int:
    """Bytes of ``blocks`` blocks on the device that holds most of them."""
    shape = shape_of(config)
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
    """The model's shape as vLLM sees it."""
    model = config.model_config
    return ModelShape(
        num_layers=model.get_total_num_hidden_layers(),
        num_heads=model.model_arch_config.total_num_attention_heads,
        num_kv_heads=model.get_total_num_kv_heads(),
        head_dim=model.get_head_size(),
    )
