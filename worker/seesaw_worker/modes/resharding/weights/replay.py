"""The plan that fills an arena: recorded once while loading, replayed at each transition.

Four parts, replayed in this order: fills, straight and row-wise copies from the host copy, other
recorded copies (casts, transposed ones), and snapshots of bytes that the first three do not
restore. Which bytes those are is found, not assumed: every region is replayed, in that same
order, over two different poisons and compared with what loading left there.
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

_POISONS = (0xA5, 0x5A)
_GAP = 64
_WORD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """What a plan moves. Units: bytes; ``resident_bytes`` lie outside the arena for good."""

    region_bytes: int
    copied_bytes: int
    written_bytes: int
    snapshot_bytes: int
    resident_bytes: int
    num_copies: int


class WeightsPlan:
    """Fills the regions of one arena with one engine's weights.

    ``replay`` may run any number of times; it always leaves the same bytes.
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
        held = list(live)
        self.regions = _live_regions(arena, held)
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
        rows = _coalesce(rows)
        self._copier = device.row_copier(host.files, self._memory, rows)
        self.summary = PlanSummary(
            region_bytes=sum(r.num_bytes for r in self.regions),
            copied_bytes=sum(r.width * r.count for r in rows),
            written_bytes=sum(
                _num_bytes(target)
                for target in (*(f.target for f in self._fills), *(c.target for c in self._casts))
            ),
            snapshot_bytes=sum(s.numel() for _, s in self._snapshots),
            resident_bytes=sum(t.nbytes for t in held if arena.find(t) is None),
            num_copies=len(rows),
        )
        self._rows = rows

    def replay(self) -> int:
        """Fill the arena and wait for it. Returns the bytes written."""
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
        """Bytes and seconds of one plain copy as large as a replay; the arena is restored.

        As few flat stretches as there are files, and from another part of the host copy on each
        rank: ranks that read the same bytes at once would find them in a shared cache.
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
                flat.append(_straight(index, source, target, width))
            left, target = left - width, target + width
        copier = self._device.plain_copier(self._host.files, self._memory, flat)
        start = time.perf_counter()
        copier.copy()
        self._device.synchronize()
        seconds = time.perf_counter() - start
        self.replay()
        return total - max(left, 0), seconds

    def identity(self) -> int:
        """A 63-bit digest of all that the plan does; equal plans leave equal bytes."""
        digest = hashlib.sha256()
        digest.update(repr((self.regions_layout(), self._rows, self._fills, self._casts)).encode())
        for offset, snapshot in self._snapshots:
            digest.update(f"{offset}:{checksum(snapshot)}".encode())
        return int.from_bytes(digest.digest()[:8]) >> 1 or 1

    def regions_layout(self) -> tuple[tuple[int, int], ...]:
        return tuple((r.offset, r.num_bytes) for r in self.regions)

    def checksum(self) -> str:
        """SHA-256 of all regions' bytes as they are in the arena now."""
        digest = hashlib.sha256()
        for region in self.regions:
            stretch = self._memory.bytes[region.offset : region.offset + region.num_bytes]
            digest.update(checksum(stretch).encode())
        return digest.hexdigest()

    def _apply(self, ops: Sequence[Op], memory: torch.Tensor, by: int) -> None:
        for op in ops:
            _apply(op, memory, by, self._host.files)
        if ops:
            self._device.synchronize()

    def _leftovers(self, region: Region, parts: "_Parts") -> list[tuple[int, torch.Tensor]]:
        """Bytes of a region that replaying does not restore, with what they must be."""
        live = self._memory.bytes[region.offset : region.offset + region.num_bytes]
        wrong = torch.zeros(0, dtype=torch.bool)
        scratch = torch.empty_like(live)
        shifted = [_shift(r, -region.offset) for r in parts.rows]
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
            (region.offset + start, live[start:stop].cpu().clone())
            for start, stop in _stretches(wrong)
        ]


def _straight(file: int, source: int, target: int, width: int) -> Rows:
    """Some bytes of a file, as one copy."""
    return Rows(
        file=file,
        source=source,
        source_pitch=width,
        target=target,
        target_pitch=width,
        width=width,
        count=1,
    )


def checksum(memory: torch.Tensor) -> str:
    """SHA-256 of a flat byte tensor."""
    held = memory.cpu().contiguous()
    return hashlib.sha256(memoryview(held.numpy())).hexdigest()


def _live_regions(arena: Arena, live: Sequence[torch.Tensor]) -> tuple[Region, ...]:
    """Regions that some live parameter still uses."""
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
    """One region's writes, by the order in which they are replayed."""

    fills: list[FillOp]
    rows: list[Rows]
    casts: list[CopyOp]


def _split(ops: Sequence[Op]) -> _Parts:
    parts = _Parts(fills=[], rows=[], casts=[])
    for op in ops:
        if isinstance(op, FillOp):
            parts.fills.append(op)
        elif (rows := _as_rows(op)) is not None:
            parts.rows.append(rows)
        else:
            parts.casts.append(op)
    if parts.fills and not parts.casts:
        covered = sum(r.width * r.count for r in parts.rows)
        if covered == max(_num_bytes(op.target) for op in parts.fills):
            parts.fills = []  # the copies cover them; if not, the leftovers tell
    return parts


def _as_rows(op: CopyOp) -> Rows | None:
    """The copy as rows of bytes; None if it casts or its innermost elements are not together."""
    if op.source.dtype != op.target.dtype:
        return None
    size = op.target.dtype.itemsize
    dims = [
        (n, s, t)
        for n, s, t in zip(op.target.shape, op.source.strides, op.target.strides, strict=True)
        if n > 1
    ]
    width = 1
    while dims and dims[-1][1] == width and dims[-1][2] == width:
        width *= dims.pop()[0]
    if len(dims) > 1:
        dims = _merge(dims)
    if len(dims) > 1 or (dims and width == 1):
        return None
    count, source_pitch, target_pitch = dims[0] if dims else (1, width, width)
    return Rows(
        file=op.file,
        source=op.source.offset,
        source_pitch=source_pitch * size,
        target=op.target.offset,
        target_pitch=target_pitch * size,
        width=width * size,
        count=count,
    )


def _merge(dims: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Join dimensions that step through memory as one, at both ends."""
    merged = [dims[-1]]
    for n, s, t in reversed(dims[:-1]):
        inner_n, inner_s, inner_t = merged[-1]
        if s == inner_n * inner_s and t == inner_n * inner_t:
            merged[-1] = (n * inner_n, inner_s, inner_t)
        else:
            merged.append((n, s, t))
    return merged[::-1]


def _coalesce(rows: Sequence[Rows]) -> list[Rows]:
    """Join straight copies that follow each other at both ends."""
    joined: list[Rows] = []
    for row in rows:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.count == row.count == 1
            and last.file == row.file
            and last.source + last.width == row.source
            and last.target + last.width == row.target
        ):
            width = last.width + row.width
            joined[-1] = Rows(
                file=row.file,
                source=last.source,
                source_pitch=width,
                target=last.target,
                target_pitch=width,
                width=width,
                count=1,
            )
        else:
            joined.append(row)
    return joined


def _shift(rows: Rows, by: int) -> Rows:
    return Rows(
        file=rows.file,
        source=rows.source,
        source_pitch=rows.source_pitch,
        target=rows.target + by,
        target_pitch=rows.target_pitch,
        width=rows.width,
        count=rows.count,
    )


def _apply(op: Op, memory: torch.Tensor, by: int, files: Sequence[torch.Tensor]) -> None:
    target = _tensor(memory, op.target, by)
    if isinstance(op, FillOp):
        target.fill_(op.value)
    else:
        target.copy_(_tensor(files[op.file], op.source, 0))


def _tensor(memory: torch.Tensor, view: View, by: int) -> torch.Tensor:
    """The view's elements as a tensor over a flat byte tensor."""
    start = view.offset + by
    size = view.dtype.itemsize
    extent = sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True)) + 1
    flat = memory[start : start + extent * size].view(view.dtype)
    return flat.as_strided(view.shape, view.strides, flat.storage_offset())


def _num_bytes(view: View) -> int:
    return math.prod(view.shape) * int(view.dtype.itemsize)


def _stretches(wrong: torch.Tensor) -> list[tuple[int, int]]:
    """Runs of set bytes, joined over gaps of up to ``_GAP`` bytes."""
    if not wrong.numel():
        return []
    where = wrong.nonzero().view(-1)
    breaks = (where.diff() > _GAP).nonzero().view(-1)
    starts = torch.cat([where[:1], where[breaks + 1]])
    stops = torch.cat([where[breaks], where[-1:]]) + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))
