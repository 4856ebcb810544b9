"""Blocks of the KV buffer: who has which, in as few runs as possible."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from seesaw_core.errors import BufferFullError, IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``length`` blocks that lie side by side at both ends of a copy."""

    source: int
    target: int
    length: int


def pair_runs(source: Sequence[int], target: Sequence[int]) -> list[Run]:
    """Cover ``source[i] -> target[i]`` with as few straight copies as possible.

    Raises: IntegrityError if the two differ in length.
    """
    if len(source) != len(target):
        raise IntegrityError(f"{len(source)} source blocks for {len(target)} target blocks")
    runs: list[Run] = []
    start = 0
    for i in range(1, len(source) + 1):
        if i < len(source) and source[i] == source[i - 1] + 1 and target[i] == target[i - 1] + 1:
            continue
        runs.append(Run(source=source[start], target=target[start], length=i - start))
        start = i
    return runs


def num_blocks_for(num_tokens: int, block_size: int) -> int:
    """Blocks that hold ``num_tokens`` tokens at ``block_size`` tokens a block."""
    return -(-num_tokens // block_size)


class BlockAllocator:
    """Hands out blocks ``0..num_blocks-1``, neighbours together where it can.

    Invariant: every block is either free or handed out once.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(range(num_blocks))

    @property
    def num_free(self) -> int:
        return len(self._free)

    def take(self, count: int) -> tuple[int, ...]:
        """Take ``count`` blocks: the first gap that holds them all, else the lowest ones.

        Raises: BufferFullError if fewer are free.
        """
        assert count >= 0, f"{count} blocks asked for"
        if count > len(self._free):
            raise BufferFullError(f"{count} KV-buffer blocks wanted, {len(self._free)} free")
        start = self._first_gap(count)
        taken = tuple(self._free[start : start + count])
        del self._free[start : start + count]
        return taken

    def give_back(self, blocks: Sequence[int]) -> None:
        """Return blocks. Raises: IntegrityError if one is free already or was never ours."""
        for block in blocks:
            at = bisect_left(self._free, block)
            known = 0 <= block < self.num_blocks
            if not known or (at < len(self._free) and self._free[at] == block):
                raise IntegrityError(f"KV-buffer block {block} was freed twice or never taken")
            self._free.insert(at, block)

    def _first_gap(self, count: int) -> int:
        for start in range(len(self._free) - count + 1):
            if count and self._free[start + count - 1] - self._free[start] == count - 1:
                return start
        return 0
