"""Copies from host memory that CUDA refuses to pin, through a ring of pinned slots.

Few machines can pin the pages of an ordinary file. So threads pack rows into pinned slots while
earlier slots cross the link: each lane has two slots and a stream. Rows are packed side by side, so
that narrow rows cross the link as one straight copy.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from seesaw_worker.devices.base import Rows
from seesaw_worker.devices.cpu import rows_of
from seesaw_worker.devices.cuda_driver import Driver, RowCopy

_NUM_LANES = 6  # a core packs some 8 GB/s, a PCIe 5 link takes 50; see tests/gpu
_SLOT_BYTES = 8 << 20
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Rows that are adjacent in a slot: their copy into the slot, and the copy out of it."""

    source: torch.Tensor
    slot: torch.Tensor
    copy: RowCopy


class _Lane:
    """Two pinned slots and a stream. Used by one thread at a time."""

    def __init__(self, driver: Driver, slot_bytes: int) -> None:
        self._driver = driver
        self.slots = (driver.pinned(slot_bytes), driver.pinned(slot_bytes))
        self._sent: list[Any] = [None, None]
        self._stream = driver.new_stream()

    def run(self, start: Any, batches: Sequence[Sequence[_Piece]]) -> Any:
        """Pack and send the batches, slot after slot. Returns the event of the last copy."""
        self._stream.wait_event(start)
        for turn, batch in enumerate(batches):
            side = turn % 2
            if self._sent[side] is not None:
                self._sent[side].synchronize()
            for piece in batch:
                piece.slot.copy_(piece.source)
                self._driver.copy(piece.copy, self._stream)
            self._sent[side] = self._stream.record_event()
        return self._stream.record_event()


@dataclass(slots=True)
class _Fill:
    """A batch while it is being filled."""

    pieces: list[_Piece] = field(default_factory=list)
    used_bytes: int = 0


class StagingRing:
    """The lanes of one process, which all its staged copies share.

    Requires: ``slot_bytes`` is a multiple of 64.
    """

    def __init__(
        self, driver: Driver, *, num_lanes: int = _NUM_LANES, slot_bytes: int = _SLOT_BYTES
    ) -> None:
        self._driver = driver
        self._slot_bytes = slot_bytes
        self._lanes = [_Lane(driver, slot_bytes) for _ in range(num_lanes)]
        self._threads = ThreadPoolExecutor(num_lanes, thread_name_prefix="seesaw-staging")

    def stage(
        self, files: Sequence[torch.Tensor], target: int, rows: Sequence[Rows]
    ) -> "StagedRows":
        """Cut ``rows`` into batches that each fit in a slot. ``target``: the arena's address."""
        num_lanes = len(self._lanes)
        batches: list[_Fill] = []
        for piece in (p for r in rows for p in _cut(r, self._slot_bytes)):
            num_bytes = piece.width * piece.count
            if not batches or batches[-1].used_bytes + num_bytes > self._slot_bytes:
                batches.append(_Fill())
            turn, lane = divmod(len(batches) - 1, num_lanes)
            fill, slot = batches[-1], self._lanes[lane].slots[turn % 2]
            packed = replace(piece, target=fill.used_bytes, target_pitch=piece.width)
            fill.pieces.append(
                _Piece(
                    source=rows_of(files[piece.file], piece.source, piece.source_pitch, packed),
                    slot=rows_of(slot, packed.target, packed.target_pitch, packed),
                    copy=_copy_out(slot.data_ptr() + fill.used_bytes, target, piece),
                )
            )
            fill.used_bytes = -(-(fill.used_bytes + num_bytes) // _ALIGNMENT) * _ALIGNMENT
        return StagedRows(
            self, [[fill.pieces for fill in batches[lane::num_lanes]] for lane in range(num_lanes)]
        )

    def copy(self, shares: Sequence[Sequence[Sequence[_Piece]]]) -> None:
        """Start each lane's share. Later work of the current stream waits for all of them."""
        stream = self._driver.current_stream()
        start = stream.record_event()
        ends = [
            self._threads.submit(lane.run, start, share)
            for lane, share in zip(self._lanes, shares, strict=True)
            if share
        ]
        for end in ends:
            stream.wait_event(end.result())


class StagedRows:
    """Implements :class:`seesaw_worker.devices.base.RowCopier` on the ring."""

    def __init__(self, ring: StagingRing, shares: Sequence[Sequence[Sequence[_Piece]]]) -> None:
        self._ring = ring
        self._shares = shares

    def copy(self) -> None:
        self._ring.copy(self._shares)


def _copy_out(slot: int, target: int, piece: Rows) -> RowCopy:
    """Return the copy of packed rows from a slot to the arena."""
    straight = piece.count == 1 or piece.target_pitch == piece.width
    width = piece.width * piece.count if straight else piece.width
    return RowCopy(
        to_device=True,
        source=slot,
        source_pitch=width,
        target=target + piece.target,
        target_pitch=width if straight else piece.target_pitch,
        width=width,
        count=1 if straight else piece.count,
    )


def _cut(rows: Rows, slot_bytes: int) -> Iterator[Rows]:
    """Yield pieces of ``rows`` that each fit in a slot: several whole rows, or parts of a row."""
    at_once = max(slot_bytes // rows.width, 1)
    for first in range(0, rows.count, at_once):
        count = min(at_once, rows.count - first)
        for start in range(0, rows.width, slot_bytes):
            yield replace(
                rows,
                source=rows.source + first * rows.source_pitch + start,
                target=rows.target + first * rows.target_pitch + start,
                width=min(rows.width - start, slot_bytes),
                count=count,
            )
