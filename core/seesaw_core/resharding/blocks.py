"""Allocates blocks of the KV buffer, in as few runs as possible."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from seesaw_core.errors import BufferFullError, IntegrityError


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``length`` blocks that are contiguous at both ends of a copy."""

    source: int
    target: int
    length: int


def pair_runs(source: Sequence[int], target: Sequence[int]) -> list[Run]:
    """Cover ``source[i] -> target[i]`` with as few contiguous copies as possible.

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
    """Return how many blocks of ``block_size`` tokens hold ``num_tokens`` tokens."""
    return -(-num_tokens // block_size)


class BlockAllocator:
    """Allocates blocks ``0..num_blocks-1``, contiguous ones where possible.

    Invariant: every block is either free or allocated once. Free blocks are kept as gaps, half-open
    ranges of blocks, so that the time of a call depends on the number of gaps and not of blocks.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = self.num_free = num_blocks
        self._starts = [0] if num_blocks else []
        self._ends = [num_blocks] if num_blocks else []

    def take(self, count: int) -> tuple[int, ...]:
        """Allocate ``count`` blocks: from the first gap that holds them all, else the lowest ones.

        Raises: BufferFullError if fewer are free.
        """
        assert count >= 0, f"{count} blocks requested"
        if count > self.num_free:
            raise BufferFullError(f"{count} KV-buffer blocks wanted, {self.num_free} free")
        self.num_free -= count
        for index, (start, end) in enumerate(zip(self._starts, self._ends, strict=True)):
            if end - start >= count:
                return self._take_from(index, count)
        taken: tuple[int, ...] = ()
        while len(taken) < count:
            taken += self._take_from(0, min(count - len(taken), self._ends[0] - self._starts[0]))
        return taken

    def give_back(self, blocks: Sequence[int]) -> None:
        """Free blocks. Raises: IntegrityError if one is free already or was never allocated."""
        first = blocks[0] if blocks else 0
        if blocks and tuple(blocks) == tuple(range(first, first + len(blocks))):
            self._insert(first, first + len(blocks))  # the usual case, without a loop
            return
        for run in pair_runs(blocks, blocks):
            self._insert(run.source, run.source + run.length)

    def _take_from(self, index: int, count: int) -> tuple[int, ...]:
        start = self._starts[index]
        self._starts[index] += count
        if self._starts[index] == self._ends[index]:
            del self._starts[index], self._ends[index]
        return tuple(range(start, start + count))

    def _insert(self, start: int, end: int) -> None:
        at = bisect_right(self._starts, start)
        before = self._ends[at - 1] if at else 0
        after = self._starts[at] if at < len(self._starts) else self.num_blocks
        if not 0 <= before <= start < end <= after:
            names = f"{start}" if end - start == 1 else f"of {start} to {end - 1}"
            raise IntegrityError(f"a KV-buffer block {names} was freed twice or never taken")
        self._starts.insert(at, start)
        self._ends.insert(at, end)
        self.num_free += end - start
        for left in (at, at - 1):  # join with the gap after, then with the one before
            if 0 <= left < len(self._starts) - 1 and self._ends[left] == self._starts[left + 1]:
                del self._ends[left], self._starts[left + 1]
