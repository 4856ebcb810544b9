"""The interface that CPU and CUDA share: arena memory, and copies from the host into it."""

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
    """``count`` rows of ``width`` bytes, to be copied from a host file into the arena.

    Units: bytes. One row is a straight copy, for which the pitches do not matter.
    """

    file: int
    source: int
    source_pitch: int
    target: int
    target_pitch: int
    width: int
    count: int

    @classmethod
    def straight(cls, file: int, source: int, target: int, width: int) -> "Rows":
        """Return ``width`` bytes of a file as one straight copy."""
        return cls(
            file=file,
            source=source,
            source_pitch=width,
            target=target,
            target_pitch=width,
            width=width,
            count=1,
        )


class RowCopier(Protocol):
    """Runs a fixed list of row copies, any number of times."""

    def copy(self) -> None:
        """Start the copies, which are complete after ``synchronize`` of the device."""
        ...


class Device(Protocol):
    """What a kind of device provides.

    Call order: ``open_arena`` once per process, ``row_copier`` once per replay, ``pin`` before
    ``copy_rows``; then any number of copies, each followed by ``synchronize``.
    """

    name: str

    def open_arena(self, folder: Path, index: int, num_bytes: int) -> ArenaMemory:
        """Return the arena of device ``index``, which the first process creates for both."""
        ...

    def settle_arena(self, folder: Path, index: int, used_bytes: int) -> None:
        """Ensure that the first ``used_bytes`` of the arena are backed by memory.

        Raises: CapacityError if there is not enough memory.
        """
        ...

    def row_copier(
        self, files: Sequence[torch.Tensor], arena: ArenaMemory, rows: Sequence[Rows]
    ) -> RowCopier: ...

    def plain_copier(
        self, files: Sequence[torch.Tensor], arena: ArenaMemory, rows: Sequence[Rows]
    ) -> RowCopier:
        """Return straight copies by the system's own means, to which a transition is compared."""
        ...

    def pin(self, memory: torch.Tensor) -> None:
        """Prepare host memory for asynchronous copies. Shapes: ``memory`` [n], uint8."""
        ...

    def copy_rows(
        self,
        target: torch.Tensor,
        target_rows: Sequence[int],
        source: torch.Tensor,
        source_rows: Sequence[int],
    ) -> None:
        """Start copying ``source[source_rows[i]]`` to ``target[target_rows[i]]``, for each i.

        One of the two is on the device and the other in pinned host memory.
        Shapes: both [any, elements], int64, each row contiguous.
        Raises: IntegrityError if the numbers of rows differ.
        """
        ...

    def synchronize(self) -> None:
        """Wait until the copies that this thread has started are complete."""
        ...
