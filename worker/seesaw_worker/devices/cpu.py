"""CPU devices: each is a set of processor cores, and its memory is shared memory."""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from seesaw_core.resharding.blocks import pair_runs
from seesaw_worker.devices.base import ArenaMemory, RowCopier, Rows
from seesaw_worker.devices.cpu_streaming import can_stream_rows, stream_rows, stream_straight
from seesaw_worker.processes.shm import map_segment, reserve

_MADV_POPULATE_WRITE = 23
_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class CpuDevice:
    """Implements :class:`seesaw_worker.devices.base.Device` on main memory."""

    name = "cpu"

    def open_arena(self, folder: Path, index: int, num_bytes: int) -> ArenaMemory:
        path = _arena_path(folder, index)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < num_bytes:
                os.ftruncate(fd, num_bytes)
            reserve(fd, num_bytes, path=path, flag="the model's size, or use --weights resident")
        finally:
            os.close(fd)
        return ArenaMemory(bytes=torch.frombuffer(map_segment(path), dtype=torch.uint8))

    def settle_arena(self, folder: Path, index: int, used_bytes: int) -> None:
        """Do nothing: opening has reserved the memory."""

    def row_copier(
        self, files: Sequence[torch.Tensor], arena: ArenaMemory, rows: Sequence[Rows]
    ) -> RowCopier:
        populate(arena.bytes)
        return _Copier(files, arena, rows)

    def plain_copier(
        self, files: Sequence[torch.Tensor], arena: ArenaMemory, rows: Sequence[Rows]
    ) -> RowCopier:
        return _Memcpy(files, arena, rows)

    def pin(self, memory: torch.Tensor) -> None:
        populate(memory)

    def copy_rows(
        self,
        target: torch.Tensor,
        target_rows: Sequence[int],
        source: torch.Tensor,
        source_rows: Sequence[int],
    ) -> None:
        for run in pair_runs(source_rows, target_rows):
            rows = source[run.source : run.source + run.length]
            target[run.target : run.target + run.length].copy_(rows)

    def synchronize(self) -> None:
        """Do nothing: copies on the CPU are complete when they return."""


class _Copier:
    """Streams aligned rows; torch copies the others."""

    def __init__(
        self, files: Sequence[torch.Tensor], arena: ArenaMemory, rows: Sequence[Rows]
    ) -> None:
        self._memory = (arena.bytes, *files)  # keeps the addresses below valid
        base = arena.bytes.data_ptr()
        self._straight: list[tuple[int, int, int]] = []
        self._streamed: list[tuple[int, int, Rows]] = []
        self._rows: list[tuple[torch.Tensor, torch.Tensor]] = []
        for r in rows:
            target, source = base + r.target, files[r.file].data_ptr() + r.source
            if r.count == 1 and can_stream_rows(target, 0, 0):
                self._straight.append((target, source, r.width))
            elif can_stream_rows(target, r.target_pitch, r.width):
                self._streamed.append((target, source, r))
            else:
                self._rows.append(
                    (
                        rows_of(arena.bytes, r.target, r.target_pitch, r),
                        rows_of(files[r.file], r.source, r.source_pitch, r),
                    )
                )

    def copy(self) -> None:
        for target, source, width in self._straight:
            stream_straight(target=target, source=source, width=width)
        for target, source, r in self._streamed:
            stream_rows(
                target=target,
                target_pitch=r.target_pitch,
                source=source,
                source_pitch=r.source_pitch,
                width=r.width,
                count=r.count,
            )
        for target_rows, source_rows in self._rows:
            target_rows.copy_(source_rows)


class _Memcpy:
    """Straight copies with the C library's ``memcpy``."""

    def __init__(
        self, files: Sequence[torch.Tensor], arena: ArenaMemory, rows: Sequence[Rows]
    ) -> None:
        self._memory = (arena.bytes, *files)
        base = arena.bytes.data_ptr()
        self._copies = [
            (base + r.target, files[r.file].data_ptr() + r.source, r.width) for r in rows
        ]

    def copy(self) -> None:
        for target, source, num_bytes in self._copies:
            ctypes.memmove(target, source, num_bytes)


def rows_of(memory: torch.Tensor, start: int, pitch: int, rows: Rows) -> torch.Tensor:
    """Return the rows as the widest integers that all addresses allow, which copy fastest."""
    view = memory.as_strided((rows.count, rows.width), (pitch, 1), memory.storage_offset() + start)
    address = memory.data_ptr() + start
    for dtype in (torch.int64, torch.int32, torch.int16):
        size = dtype.itemsize
        aligned = not any(n % size for n in (start, rows.source, rows.target, rows.width))
        pitches = rows.count == 1 or not any(
            n % size for n in (rows.source_pitch, rows.target_pitch)
        )
        if aligned and pitches and not address % size and not view.storage_offset() % size:
            return view.view(dtype) if rows.count > 1 else view[0].view(dtype)
    return view if rows.count > 1 else view[0]


def populate(memory: torch.Tensor) -> None:
    """Map every page of shared memory now. Older kernels do so at the first write."""
    start = memory.data_ptr() & ~4095
    _libc.madvise(start, memory.data_ptr() + memory.numel() - start, _MADV_POPULATE_WRITE)


def _arena_path(folder: Path, index: int) -> Path:
    return folder / f"arena-{index}"
