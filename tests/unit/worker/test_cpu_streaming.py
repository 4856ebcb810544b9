"""Streamed rows arrive whole, and not a byte beside them changes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seesaw_worker.devices.cpu_streaming import can_stream_rows, stream_rows, stream_straight

SIZE = 1 << 20


def memories() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.randint(0, 256, (SIZE,), dtype=torch.uint8)
    return source, torch.full((SIZE,), 0xA5, dtype=torch.uint8)


def aligned(memory: torch.Tensor) -> int:
    """The first place of a memory whose address the kernel can write to."""
    address: int = memory.data_ptr()
    return -address % 64


@given(
    width=st.integers(1, 40).map(lambda n: 64 * n),
    count=st.integers(0, 23),
    gap=st.integers(0, 5).map(lambda n: 32 * n),
    source_gap=st.integers(0, 99),
    offset=st.integers(0, 64),
)
@settings(deadline=None)
def test_rows_arrive_and_nothing_else_changes(
    width: int, count: int, gap: int, source_gap: int, offset: int
) -> None:
    source, target = memories()
    start = aligned(target)
    pitch, source_pitch = width + gap, width + source_gap
    expected = target.clone()
    for row in range(count):
        at, source_at = start + row * pitch, offset + row * source_pitch
        expected[at : at + width] = source[source_at : source_at + width]
    assert can_stream_rows(target.data_ptr() + start, pitch, width)
    stream_rows(
        target=target.data_ptr() + start,
        target_pitch=pitch,
        source=source.data_ptr() + offset,
        source_pitch=source_pitch,
        width=width,
        count=count,
    )
    assert torch.equal(target, expected)


@given(width=st.integers(0, SIZE - 200), offset=st.integers(0, 100))
@settings(deadline=None)
def test_a_stretch_of_any_length_arrives_whole(width: int, offset: int) -> None:
    source, target = memories()
    start = aligned(target)
    expected = target.clone()
    expected[start : start + width] = source[offset : offset + width]
    stream_straight(
        target=target.data_ptr() + start, source=source.data_ptr() + offset, width=width
    )
    assert torch.equal(target, expected)
