"""Weights copies as rows of bytes, which every kind of device can copy fast: arithmetic only."""

from collections.abc import Sequence
from dataclasses import replace

from seesaw_worker.devices.base import Rows
from seesaw_worker.modes.resharding.weights.recorder import CopyOp


def as_rows(op: CopyOp) -> Rows | None:
    """Return a copy as rows of bytes; None if it casts or its innermost elements are scattered."""
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
    """Merge dimensions that are contiguous in both the source and the target."""
    merged = [dims[-1]]
    for n, s, t in reversed(dims[:-1]):
        inner_n, inner_s, inner_t = merged[-1]
        if s == inner_n * inner_s and t == inner_n * inner_t:
            merged[-1] = (n * inner_n, inner_s, inner_t)
        else:
            merged.append((n, s, t))
    return merged[::-1]


def coalesce(rows: Sequence[Rows]) -> list[Rows]:
    """Merge straight copies that follow each other in both the source and the target."""
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
            joined[-1] = Rows.straight(row.file, last.source, last.target, last.width + row.width)
        else:
            joined.append(row)
    return joined


def shift(rows: Rows, by: int) -> Rows:
    """Return the rows with their target moved by ``by`` bytes."""
    return replace(rows, target=rows.target + by)
