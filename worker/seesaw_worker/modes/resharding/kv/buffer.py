"""The KV buffer: whole KV blocks in shared memory, addressed by (block, layer, KV head).

A page holds the KV of one head of one layer for one block of tokens, in the order and dtype in
which the engine's attention wrote it. Pages are copied whole and as bytes, so every KV dtype works
and a copy cannot change a bit.

Shapes: ``P`` pool blocks, ``B`` buffer blocks, ``L`` layers, ``H`` KV heads, ``W`` 64-bit words
per page; lower case ``h`` for the heads of one rank.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from seesaw_core.errors import IntegrityError
from seesaw_core.resharding.placement import KvShard
from seesaw_worker.devices.base import Device
from seesaw_worker.processes.shm import create_segment, map_segment

_WORD = 8


def create_buffer(path: Path, num_blocks: int, block_bytes: int) -> None:
    """Reserve the whole buffer. Raises: CapacityError if shared memory cannot hold it."""
    create_segment(path, num_blocks * block_bytes, flag="--kv-buffer-gib")


class KvBuffer:
    """One rank's view of the buffer. Copies are complete after the device's ``synchronize``.

    Shapes: ``_words_BLHW`` [num_blocks, num_layers, num_kv_heads, words].
    """

    def __init__(
        self, path: Path, device: Device, *, num_layers: int, num_kv_heads: int, page_bytes: int
    ) -> None:
        if page_bytes % _WORD:
            raise IntegrityError(f"a KV page of {page_bytes} bytes is not a multiple of {_WORD}")
        memory = torch.frombuffer(map_segment(path), dtype=torch.uint8)
        device.pin(memory)
        self._device = device
        words = memory.view(torch.int64)
        self._words_BLHW = words.view(-1, num_layers, num_kv_heads, page_bytes // _WORD)

    @property
    def words_BLHW(self) -> torch.Tensor:
        return self._words_BLHW

    def save(
        self,
        pool_PhW: torch.Tensor,
        *,
        layer: int,
        shard: KvShard,
        pool_blocks: Sequence[int],
        buffer_blocks: Sequence[int],
    ) -> None:
        """Copy one layer of ``pool_blocks`` into ``buffer_blocks``."""
        self._device.copy_rows(
            self._rows(layer, shard), buffer_blocks, pool_PhW.flatten(1), pool_blocks
        )

    def load(
        self,
        pool_PhW: torch.Tensor,
        *,
        layer: int,
        shard: KvShard,
        buffer_blocks: Sequence[int],
        pool_blocks: Sequence[int],
    ) -> None:
        """Copy one layer of ``buffer_blocks`` into ``pool_blocks``."""
        self._device.copy_rows(
            pool_PhW.flatten(1), pool_blocks, self._rows(layer, shard), buffer_blocks
        )

    def _rows(self, layer: int, shard: KvShard) -> torch.Tensor:
        """Return a row per block: the pages of the rank's heads. Shapes: [num_blocks, h * W]."""
        heads = slice(shard.heads.start, shard.heads.stop)
        return self._words_BLHW[:, layer, heads].flatten(1)


def as_pages(layer_kv: torch.Tensor, *, num_heads: int, page_bytes: int) -> torch.Tensor:
    """Return one layer of vLLM's KV pool as a view of pages of words.

    Shapes: ``layer_kv`` [P, h, block_size, K+V content], the result [P, h, W].
    Raises: IntegrityError if the pool has another layout.
    """
    num_blocks = layer_kv.shape[0]
    flat = layer_kv.view(torch.uint8)
    if (
        layer_kv.dim() != 4
        or layer_kv.shape[1] != num_heads
        or flat[0, 0].numel() != page_bytes
        or not flat[0].is_contiguous()
    ):
        raise IntegrityError(
            f"vLLM's KV pool has shape {tuple(layer_kv.shape)} and strides "
            f"{layer_kv.stride()}, expected [blocks, {num_heads}, block_size, content] "
            f"with {page_bytes} bytes for a head's block, in one piece (layout HND, or LBHNC); "
            "unset VLLM_KV_CACHE_LAYOUT, choose another --attention-backend, or use "
            "--reshard never"
        )
    return flat.view(num_blocks, num_heads, page_bytes).view(torch.int64)
