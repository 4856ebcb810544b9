"""The writes that fill an arena: recorded once while loading, replayed at each transition.

A replay has four parts, in this order: fills, straight and row-wise copies from the host copy,
other recorded copies (casts and transpositions), and snapshots of bytes that the first three do
not restore. Those bytes are found by comparison: every region is replayed in the same order over
two different poisons and compared with what loading left there.
"""

import hashlib
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from seesaw_worker.devices.base import ArenaMemory, Device, Rows
from seesaw_worker.modes.resharding.weights.arena import Arena, Region
from seesaw_worker.modes.resharding.weights.host import HostModel
from seesaw_worker.modes.resharding.weights.recorder import CopyOp, FillOp, Op, View
from seesaw_worker.modes.resharding.weights.rows import (
    as_rows,
    coalesce,
    shift,
)

_POISONS = (0xA5, 0x5A)
_GAP = 64
_WORD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySummary:
    """What a replay moves. Units: bytes; ``resident_bytes`` stay outside the arena."""

    region_bytes: int
    copied_bytes: int
    written_bytes: int
    snapshot_bytes: int
    resident_bytes: int
    num_copies: int


class WeightsReplay:
    """Fills the regions of one arena with one engine's weights.

    :meth:`run` may be called any number of times and always leaves the same bytes.
    """

    def __init__(
        self,
        *,
        arena: Arena,
        host: HostModel,
        device: Device,
        ops: Sequence[Op],
        live: Iterable[torch.Tensor],
    ) -> None:
        self._device = device
        self._host = host
        self._memory = arena.memory
        parameters = list(live)
        self.regions = _live_regions(arena, parameters)
        by_region = _group(ops, self.regions)
        rows: list[Rows] = []
        self._fills: list[FillOp] = []
        self._casts: list[CopyOp] = []
        self._snapshots: list[tuple[int, torch.Tensor]] = []
        for region, region_ops in zip(self.regions, by_region, strict=True):
            parts = _split(region_ops)
            self._snapshots += self._leftovers(region, parts)
            self._fills += parts.fills
            rows += parts.rows
            self._casts += parts.casts
        rows = coalesce(rows)
        self._copier = device.row_copier(host.files, self._memory, rows)
        self.summary = ReplaySummary(
            region_bytes=sum(r.num_bytes for r in self.regions),
            copied_bytes=sum(r.width * r.count for r in rows),
            written_bytes=sum(
                _num_bytes(target)
                for target in (*(f.target for f in self._fills), *(c.target for c in self._casts))
            ),
            snapshot_bytes=sum(s.numel() for _, s in self._snapshots),
            resident_bytes=sum(t.nbytes for t in parameters if arena.find(t) is None),
            num_copies=len(rows),
        )
        self._rows = rows

    def run(self) -> int:
        """Fill the arena and wait for the copies. Returns the bytes written."""
        self._apply(self._fills, self._memory.bytes, 0)
        self._copier.copy()
        self._apply(self._casts, self._memory.bytes, 0)
        for offset, snapshot in self._snapshots:
            self._memory.bytes[offset : offset + snapshot.numel()].copy_(
                snapshot, non_blocking=True
            )
        self._device.synchronize()
        summary = self.summary
        return summary.copied_bytes + summary.written_bytes + summary.snapshot_bytes

    def time_memcpy(self, rank: int) -> tuple[int, float]:
        """Time one plain copy as large as a replay, then restore the arena.

        Each file is copied as one flat range. Each rank reads another part of the host copy, since
        ranks that read the same bytes at once would find them in a shared cache.
        Returns the bytes and the seconds.
        """
        total = left = sum(r.width * r.count for r in self._rows)
        skip = min(total * rank, max(0, self._host.num_bytes - total))
        target = 0
        flat: list[Rows] = []
        for index, file in enumerate(self._host.files):
            source = min(skip, file.numel()) & -_WORD
            width = min(left, file.numel() - source, self._memory.bytes.numel() - target) & -_WORD
            skip -= source
            if width > 0:
                flat.append(Rows.straight(index, source, target, width))
            left, target = left - width, target + width
        copier = self._device.plain_copier(self._host.files, self._memory, flat)
        start = time.perf_counter()
        copier.copy()
        self._device.synchronize()
        seconds = time.perf_counter() - start
        self.run()
        return total - max(left, 0), seconds

    def identity(self) -> int:
        """Return a 63-bit digest of the replay. Equal replays leave equal bytes."""
        digest = hashlib.sha256()
        digest.update(repr((self.regions_layout(), self._rows, self._fills, self._casts)).encode())
        for offset, snapshot in self._snapshots:
            digest.update(f"{offset}:{checksum(snapshot)}".encode())
        return int.from_bytes(digest.digest()[:8]) >> 1 or 1

    def regions_layout(self) -> tuple[tuple[int, int], ...]:
        return tuple((r.offset, r.num_bytes) for r in self.regions)

    def checksum(self) -> str:
        """Return the SHA-256 of the bytes that all regions hold now."""
        digest = hashlib.sha256()
        for region in self.regions:
            content = self._memory.bytes[region.offset : region.offset + region.num_bytes]
            digest.update(checksum(content).encode())
        return digest.hexdigest()

    def _apply(self, ops: Sequence[Op], memory: torch.Tensor, by: int) -> None:
        for op in ops:
            _apply(op, memory, by, self._host.files)
        if ops:
            self._device.synchronize()

    def _leftovers(self, region: Region, parts: "_Parts") -> list[tuple[int, torch.Tensor]]:
        """Return the bytes of a region that the other parts do not restore, with their offsets."""
        live = self._memory.bytes[region.offset : region.offset + region.num_bytes]
        wrong = torch.zeros(0, dtype=torch.bool)
        scratch = torch.empty_like(live)
        shifted = [shift(r, -region.offset) for r in parts.rows]
        copier = self._device.row_copier(self._host.files, ArenaMemory(bytes=scratch), shifted)
        for poison in _POISONS:
            scratch.fill_(poison)
            self._apply(parts.fills, scratch, -region.offset)
            copier.copy()
            self._device.synchronize()
            self._apply(parts.casts, scratch, -region.offset)
            if not torch.equal(scratch, live):
                differs = (scratch != live).cpu()
                wrong = differs if not wrong.numel() else wrong | differs
        return [
            (region.offset + start, live[start:stop].cpu().clone()) for start, stop in _runs(wrong)
        ]


def checksum(memory: torch.Tensor) -> str:
    """Return the SHA-256 of a flat byte tensor."""
    return hashlib.sha256(memoryview(memory.cpu().contiguous().numpy())).hexdigest()


def _live_regions(arena: Arena, live: Sequence[torch.Tensor]) -> tuple[Region, ...]:
    """Return the regions that a live parameter still uses."""
    offsets = [o for t in live if (o := arena.find(t)) is not None]
    return tuple(
        r for r in arena.regions if any(r.offset <= o < r.offset + r.num_bytes for o in offsets)
    )


def _group(ops: Sequence[Op], regions: Sequence[Region]) -> list[list[Op]]:
    groups: list[list[Op]] = [[] for _ in regions]
    for op in ops:
        for index, region in enumerate(regions):
            if region.offset <= op.target.offset < region.offset + region.num_bytes:
                groups[index].append(op)
                break
    return groups


@dataclass(slots=True, kw_only=True)
class _Parts:
    """The writes of one region, in the order in which they are replayed."""

    fills: list[FillOp]
    rows: list[Rows]
    casts: list[CopyOp]


def _split(ops: Sequence[Op]) -> _Parts:
    parts = _Parts(fills=[], rows=[], casts=[])
    for op in ops:
        if isinstance(op, FillOp):
            parts.fills.append(op)
        elif (rows := as_rows(op)) is not None:
            parts.rows.append(rows)
        else:
            parts.casts.append(op)
    if parts.fills and not parts.casts:
        covered = sum(r.width * r.count for r in parts.rows)
        if covered == max(_num_bytes(op.target) for op in parts.fills):
            parts.fills = []  # the copies cover them; if they do not, snapshots restore the rest
    return parts


def _apply(op: Op, memory: torch.Tensor, by: int, files: Sequence[torch.Tensor]) -> None:
    target = _tensor(memory, op.target, by)
    if isinstance(op, FillOp):
        target.fill_(op.value)
    else:
        target.copy_(_tensor(files[op.file], op.source, 0))


def _tensor(memory: torch.Tensor, view: View, by: int) -> torch.Tensor:
    """Return the elements of a view as a tensor over a flat byte tensor."""
    start = view.offset + by
    size = view.dtype.itemsize
    extent = sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True)) + 1
    flat = memory[start : start + extent * size].view(view.dtype)
    return flat.as_strided(view.shape, view.strides, flat.storage_offset())


def _num_bytes(view: View) -> int:
    return math.prod(view.shape) * int(view.dtype.itemsize)


def _runs(wrong: torch.Tensor) -> list[tuple[int, int]]:
    """Return the runs of set bytes, joined over gaps of up to ``_GAP`` bytes."""
    if not wrong.numel():
        return []
    where = wrong.nonzero().view(-1)
    breaks = (where.diff() > _GAP).nonzero().view(-1)
    starts = torch.cat([where[:1], where[breaks + 1]])
    stops = torch.cat([where[breaks], where[-1:]]) + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))
