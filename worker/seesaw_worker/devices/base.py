"""The seam between CPU and CUDA: arena memory, and copies from the host into it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaMemory:
    """Shared memory of one device. Shapes: ``bytes`` [num_bytes], uint8."""

    bytes: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """``count`` rows of ``width`` bytes that go from a host file into the arena.

    Units: bytes. With one row the copy is a straight one and the pitches do not matter.
    """

    file: int
    source: int
    source_pitch: int
    target: int
    target_pitch: int
    width: int
    count: int


class RowCopier(Protocol):
    """Replays a fixed list of row copies, as often as asked."""

    def copy(self) -> None:
        """Start the copies; they are done after ``synchronize`` of the device."""
        ...


class Device(Protocol):
    """What a kind of device must offer.

    Call order: ``open_arena`` once a process, ``row_copier`` once a plan, ``pin`` before
    ``copy_rows``; then any number of copies, each followed by ``synchronize``.
    """

    name: str

    def open_arena(self, folder: Path, index: int, num_bytes: int) -> ArenaMemory:
        """The arena of device ``index``: made by the first process, shared by the second."""
        ...

    def settle_arena(self, folder: Path, index: int, used_bytes: int) -> None:
        """Make sure that ``used_bytes`` of the arena have their memory.

        Raises: CapacityError if they cannot have it.
        """
        ...

    def row_copier(
        self, files: Sequence[torch.Tensor], arena: ArenaMemory, rows: Sequence[Rows]
    ) -> RowCopier: ...

    def plain_copier(
        self, files: Sequence[torch.Tensor], arena: ArenaMemory, rows: Sequence[Rows]
    ) -> RowCopier:
        """Straight copies by the system's own means: what a transition is held against."""
        ...

    def pin(self, memory: torch.Tensor) -> None:
        """Make host memory fit for asynchronous copies. Shapes: ``memory`` [n], uint8."""
        ...

    def copy_rows(
        self,
        target: torch.Tensor,
        target_rows: Sequence[int],
        source: torch.Tensor,
        source_rows: Sequence[int],
    ) -> None:
        """Start to copy ``source[source_rows[i]]`` to ``target[target_rows[i]]``, for each i.

        One of the two is on the device and the other in pinned host memory.
        Shapes: both [any, elements], int64, each row in one piece.
        Raises: IntegrityError if there are more rows of one than of the other.
        """
        ...

    def synchronize(self) -> None:
        """Wait until the copies that this thread has started are done."""
        ...
