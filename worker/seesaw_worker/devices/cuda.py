"""GPUs: the arena is one allocation that two processes share, and copies run on streams.

The first process allocates the arena outside torch's allocator and writes an IPC handle to the
worker's folder, which the second process opens. Neither frees the arena before it ends, so its
addresses stay valid for CUDA graphs.
Not done yet: bytes that a device holds in both layouts need not cross the link at all.
"""

import fcntl
import json
import logging
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from seesaw_core.errors import BrokenError, CapacityError, IntegrityError
from seesaw_core.resharding.blocks import pair_runs
from seesaw_worker.devices.base import ArenaMemory, RowCopier, Rows
from seesaw_worker.devices.cuda_driver import CudaDriver, Driver, RowCopy
from seesaw_worker.devices.cuda_staging import StagingRing

logger = logging.getLogger("vllm.seesaw.cuda")

_GRANULE = 2 << 20  # smaller allocations share their memory and so their IPC handle
_RUN_BYTES = 512 << 10  # an average run that keeps the link busy while the next one starts
_SCATTER_BYTES = 32 << 20


class CudaDevice:
    """Implements :class:`seesaw_worker.devices.base.Device` on the current GPU.

    Requires: the creating thread's current GPU is the rank's. Any thread may use the object.
    """

    name = "cuda"

    def __init__(self, driver: Driver | None = None) -> None:
        self._driver: Driver = driver or CudaDriver()
        self._ring: StagingRing | None = None
        self._pinned: dict[int, tuple[torch.Tensor, bool]] = {}
        self._mapped: list[tuple[torch.Tensor, torch.Tensor]] = []

    def open_arena(self, folder: Path, index: int, num_bytes: int) -> ArenaMemory:
        """Allocate the arena and publish it, or open the one that the other process has published.

        Raises: CapacityError if the memory does not fit; IntegrityError if the other process's
        arena is on another GPU, too small or closed.
        """
        path = folder / f"arena-{index}.json"
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            is_published = path.exists()
            owner = self._open(path, num_bytes) if is_published else self._allocate(path, num_bytes)
        return ArenaMemory(bytes=self._driver.tensor(owner.address, num_bytes, owner))

    def settle_arena(self, folder: Path, index: int, used_bytes: int) -> None:
        """Do nothing: CUDA backs an allocation with memory at once."""

    def row_copier(
        self, files: Sequence[torch.Tensor], arena: ArenaMemory, rows: Sequence[Rows]
    ) -> RowCopier:
        """Copy directly from files that can be pinned, and through pinned slots from the others."""
        target = arena.bytes.data_ptr()
        pinned = {f: self._pin(files[f], writable=False) for f in {r.file for r in rows}}
        direct = _DirectRows(
            self._driver, [_row_copy(files, target, r) for r in rows if pinned[r.file]]
        )
        rest = [r for r in rows if not pinned[r.file]]
        if not rest:
            return direct
        if self._ring is None:
            self._ring = StagingRing(self._driver)
            logger.info("the checkpoint's pages cannot be pinned: copies go through pinned slots")
        return _Both(direct, self._ring.stage(files, target, rest))

    def plain_copier(
        self, files: Sequence[torch.Tensor], arena: ArenaMemory, rows: Sequence[Rows]
    ) -> RowCopier:
        return self.row_copier(files, arena, rows)

    def pin(self, memory: torch.Tensor) -> None:
        if self._pin(memory, writable=True):
            address = self._driver.device_address(memory.data_ptr())
            view = self._driver.tensor(address, memory.numel(), memory)
            self._mapped.append((memory, view))
        else:
            logger.warning(
                "CUDA cannot pin %d bytes of shared memory: copies work, but more slowly",
                memory.numel(),
            )

    def copy_rows(
        self,
        target: torch.Tensor,
        target_rows: Sequence[int],
        source: torch.Tensor,
        source_rows: Sequence[int],
    ) -> None:
        """Copy long runs with the copy engine, scattered rows with a kernel that reads the host.

        A call of the copy engine costs about 10 us, much more than the copy of a few KiB.
        """
        assert target.shape[1] == source.shape[1], "rows have the same width at both ends"
        assert target.dtype == source.dtype == torch.int64, "bytes are moved, never converted"
        assert target.stride(1) == source.stride(1) == 1, "each row is contiguous"
        there, here = _indices(target_rows), _indices(source_rows)
        num_bytes = len(source_rows) * source.shape[1] * source.element_size()
        target_view, source_view = self._device_view(target), self._device_view(source)
        is_mapped = target_view is not None or source_view is not None
        if is_mapped and num_bytes < _num_runs(there, here) * _RUN_BYTES:
            _scatter(
                target if target_view is None else target_view,
                there,
                source if source_view is None else source_view,
                here,
            )
            return
        for run in pair_runs(source_rows, target_rows):
            self._copy_run(
                target[run.target : run.target + run.length],
                source[run.source : run.source + run.length],
            )

    def synchronize(self) -> None:
        """Wait for the copies of this thread, but not for those of others."""
        self._driver.current_stream().synchronize()

    def _copy_run(self, target: torch.Tensor, source: torch.Tensor) -> None:
        size = target.element_size()
        self._driver.copy(
            _straightened(
                RowCopy(
                    to_device=source.device.type == "cpu",
                    source=source.data_ptr(),
                    source_pitch=source.stride(0) * size,
                    target=target.data_ptr(),
                    target_pitch=target.stride(0) * size,
                    width=target.shape[1] * size,
                    count=target.shape[0],
                )
            ),
            self._driver.current_stream(),
        )

    def _device_view(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Return the device's view of rows in pinned host memory; None for other rows."""
        for memory, view in self._mapped:
            offset = rows.data_ptr() - memory.data_ptr()
            if 0 <= offset < memory.numel():
                words = view.view(rows.dtype)
                return words.as_strided(rows.shape, rows.stride(), offset // rows.element_size())
        return None

    def _pin(self, memory: torch.Tensor, *, writable: bool) -> bool:
        """Pin memory once, and keep the mapping as long as it is pinned."""
        address = memory.data_ptr()
        if address not in self._pinned:
            done = self._driver.register(address, memory.numel(), writable=writable)
            self._pinned[address] = (memory, done)
        return self._pinned[address][1]

    def _allocate(self, path: Path, num_bytes: int) -> "_Owner":
        whole = -(-num_bytes // _GRANULE) * _GRANULE
        try:
            address = self._driver.allocate(whole)
        except MemoryError as error:
            raise CapacityError(
                f"the weights arena does not fit the GPU: {error}; use a larger GPU, more of "
                "them, or a smaller or quantized model"
            ) from error
        owner = _Owner(address, self._driver.free)
        _publish(
            path,
            _Published(
                handle=self._driver.export(address).hex(),
                num_bytes=whole,
                gpu=self._driver.gpu(),
                pid=os.getpid(),
            ),
        )
        return owner

    def _open(self, path: Path, num_bytes: int) -> "_Owner":
        arena = _Published(**json.loads(path.read_text()))
        if arena.gpu != self._driver.gpu() or arena.num_bytes < num_bytes:
            raise IntegrityError(
                f"{path.name}: process {arena.pid} has created an arena of {arena.num_bytes} bytes "
                f"on GPU {arena.gpu}, but {num_bytes} are needed on {self._driver.gpu()}; both "
                "engines' ranks must be on the same GPUs, in the same order"
            )
        try:
            address = self._driver.open(bytes.fromhex(arena.handle))
        except BrokenError as error:
            raise IntegrityError(
                f"{path.name}: the arena of process {arena.pid} cannot be opened; both engines "
                "must run in one container, and that process must be alive"
            ) from error
        return _Owner(address, self._driver.close)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """How the second process opens the arena of the first."""

    handle: str
    num_bytes: int
    gpu: str
    pid: int


class _Owner:
    """Frees device memory once no tensor uses it. The end of a process frees it anyway."""

    def __init__(self, address: int, release: Callable[[int], None]) -> None:
        self.address = address
        weakref.finalize(self, release, address).atexit = False


class _DirectRows:
    """Implements :class:`seesaw_worker.devices.base.RowCopier` on the current stream."""

    def __init__(self, driver: Driver, copies: Sequence[RowCopy]) -> None:
        self._driver = driver
        self._copies = copies

    def copy(self) -> None:
        stream = self._driver.current_stream()
        for copy in self._copies:
            self._driver.copy(copy, stream)


class _Both:
    """Two copiers as one: direct copies cross the link while the other rows are packed."""

    def __init__(self, direct: RowCopier, staged: RowCopier) -> None:
        self._direct = direct
        self._staged = staged

    def copy(self) -> None:
        self._direct.copy()
        self._staged.copy()


def _indices(rows: Sequence[int]) -> torch.Tensor:
    """Return ``torch.tensor(rows)`` in a quarter of the time."""
    return torch.from_numpy(np.asarray(rows, dtype=np.int64))


def _num_runs(there: torch.Tensor, here: torch.Tensor) -> int:
    """Return the number of runs that ``pair_runs`` would return. Raises: IntegrityError like it."""
    if len(there) != len(here):
        raise IntegrityError(f"{len(here)} source blocks for {len(there)} target blocks")
    breaks = (there.diff() != 1) | (here.diff() != 1)
    return 1 + int(breaks.sum())


def _scatter(
    target: torch.Tensor, there: torch.Tensor, source: torch.Tensor, here: torch.Tensor
) -> None:
    """Copy rows with kernels, through device memory. Requires: the device can access both."""
    step = max(1, _SCATTER_BYTES // (source.shape[1] * source.element_size()))
    chunks = (rows.to(target.device).split(step) for rows in (there, here))
    for some_there, some_here in zip(*chunks, strict=True):
        target.index_copy_(0, some_there, source.index_select(0, some_here))


def _publish(path: Path, arena: _Published) -> None:
    """Write the file atomically."""
    scratch = path.with_suffix(".partial")
    scratch.write_text(json.dumps(asdict(arena)))
    scratch.replace(path)


def _row_copy(files: Sequence[torch.Tensor], target: int, rows: Rows) -> RowCopy:
    return _straightened(
        RowCopy(
            to_device=True,
            source=files[rows.file].data_ptr() + rows.source,
            source_pitch=rows.source_pitch,
            target=target + rows.target,
            target_pitch=rows.target_pitch,
            width=rows.width,
            count=rows.count,
        )
    )


def _straightened(rows: RowCopy) -> RowCopy:
    """Return rows that are contiguous at both ends as one row."""
    if rows.count == 1 or not rows.source_pitch == rows.target_pitch == rows.width:
        return rows
    return replace(rows, width=rows.width * rows.count, count=1)
