"""End-to-end checksums of KV pages, for ``--verify-kv``.

The rank that computed a page sums it in its own pool, and each rank that loads the page sums it
again in its pool. The sum multiplies each 64-bit word by a different odd number, so that it detects
every change of a single word.

Shapes: ``B`` buffer blocks, ``L`` layers, ``H`` KV heads, ``W`` words per page, ``n`` blocks of one
copy; lower case ``h`` for the heads of one rank.
"""

from pathlib import Path

import torch

from seesaw_core.errors import IntegrityError
from seesaw_core.resharding.placement import KvShard
from seesaw_worker.modes.resharding.kv.transfer import BlockCopy
from seesaw_worker.processes.shm import create_segment, map_segment
from seesaw_worker.settings.engine import EngineSettings

_WORD = 8


def create_sums(path: Path, num_pages: int) -> None:
    """Create the table of checksums. Raises: CapacityError if shared memory cannot hold it."""
    create_segment(path, num_pages * _WORD, flag="--verify-kv")


class PageSums:
    """One rank's view of the table, [num_blocks, num_layers, num_kv_heads]."""

    def __init__(self, settings: EngineSettings) -> None:
        shape = settings.shape
        table = torch.frombuffer(map_segment(settings.sums_path), dtype=torch.int64)
        self._sums_BLH = table.view(-1, shape.num_layers, shape.num_kv_heads)
        words = settings.page_bytes // _WORD
        self._odd_W = torch.arange(words, dtype=torch.int64) * 0x9E3779B97F4A7C2 + 1
        self._odd_W |= 1

    def write(self, pool_PhW: torch.Tensor, layer: int, shard: KvShard, copy: BlockCopy) -> None:
        """Write the sums of the pages that ``copy`` saves."""
        blocks = torch.tensor(copy.buffer_blocks)
        heads = torch.arange(shard.heads.start, shard.heads.stop)
        self._sums_BLH[blocks[:, None], layer, heads] = self._sum(pool_PhW, copy)

    def check(self, pool_PhW: torch.Tensor, layer: int, shard: KvShard, copy: BlockCopy) -> None:
        """Raises: IntegrityError if a loaded page differs from what its writer computed."""
        blocks = torch.tensor(copy.buffer_blocks)
        heads = torch.arange(shard.heads.start, shard.heads.stop)
        wrong = self._sums_BLH[blocks[:, None], layer, heads] != self._sum(pool_PhW, copy)
        if wrong.any():
            block, head = wrong.nonzero()[0].tolist()
            raise IntegrityError(
                f"KV of layer {layer}, head {shard.heads.start + head}, buffer block "
                f"{copy.buffer_blocks[block]} is not what was computed: memory was corrupted"
            )

    def _sum(self, pool_PhW: torch.Tensor, copy: BlockCopy) -> torch.Tensor:
        """Return the sums of one copy's pages, [n, h], on the host."""
        pages_nhW = pool_PhW[torch.tensor(copy.pool_blocks, device=pool_PhW.device)]
        return (pages_nhW * self._odd_W.to(pool_PhW.device)).sum(-1).cpu()
