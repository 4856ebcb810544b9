"""Every device keeps one contract: rows arrive whole, wherever they come from.

CUDA's own code runs here over host memory: streams that run late stand in for a GPU's, so that a
slot emptied too late, or a copy that nobody waits for, leaves wrong bytes.
"""

import mmap
from functools import cache
from pathlib import Path

import pytest
import torch

from seesaw_core.errors import CapacityError, IntegrityError
from seesaw_worker.devices.base import ArenaMemory, Device, Rows
from seesaw_worker.devices.cpu import CpuDevice
from seesaw_worker.devices.cuda import CudaDevice
from seesaw_worker.devices.cuda_staging import StagingRing
from support.fake_device.host_driver import ChoosyDriver, HostDriver

MIB = 1 << 20


def pinned_gpu() -> Device:
    return CudaDevice(HostDriver())


def staged_gpu() -> Device:
    return CudaDevice(HostDriver(pins=False))


def choosy_gpu() -> Device:
    return CudaDevice(ChoosyDriver())


@cache
def real_gpu() -> Device:
    """One for the process, as in a worker: what it has pinned stays pinned, and mapped."""
    return CudaDevice()


@pytest.fixture(
    params=[
        pytest.param(CpuDevice, id="cpu"),
        pytest.param(pinned_gpu, id="gpu that pins files"),
        pytest.param(staged_gpu, id="gpu that stages files"),
        pytest.param(choosy_gpu, id="gpu that pins some files"),
        pytest.param(
            real_gpu,
            id="real gpu",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> Device:
    made: Device = request.param()
    return made


def noise(num_bytes: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num_bytes,), dtype=torch.uint8, generator=generator)


def strided(source: int, target: int, width: int, count: int, gap: int = 0) -> Rows:
    """Every second row of a file, to rows that lie ``gap`` bytes apart."""
    return Rows(
        file=0,
        source=source,
        source_pitch=2 * width,
        target=target,
        target_pitch=width + gap,
        width=width,
        count=count,
    )


def expected(files: list[torch.Tensor], rows: list[Rows], before: torch.Tensor) -> torch.Tensor:
    after = before.clone()
    for r in rows:
        for row in range(r.count):
            source = r.source + row * r.source_pitch
            target = r.target + row * r.target_pitch
            after[target : target + r.width] = files[r.file][source : source + r.width]
    return after


ROWS = {
    "one straight copy": [Rows.straight(0, 8, 0, MIB)],
    "a copy larger than a slot": [Rows.straight(0, 0, 64, 9 * MIB)],
    "narrow rows side by side": [strided(0, 256, 96, 5000)],
    "rows apart at both ends": [strided(64, 0, 1024, 300, gap=512)],
    "odd addresses and widths": [strided(3, 5, 7, 11, gap=2), Rows.straight(1, 1, 4099, 13)],
    "two files and many small copies": [
        Rows.straight(i % 2, 100 * i, 128 * i, 100) for i in range(999)
    ],
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS.keys())
def test_rows_arrive_at_their_places_and_nowhere_else(
    device: Device, tmp_path: Path, rows: list[Rows]
) -> None:
    files = [noise(10 * MIB, seed=1), noise(MIB, seed=2)]
    arena = device.open_arena(tmp_path, 0, 12 * MIB)
    copier = device.row_copier(files, arena, rows)
    for poison in (0xA5, 0x5A):
        arena.bytes.fill_(poison)
        before = arena.bytes.cpu()
        copier.copy()
        device.synchronize()
        assert torch.equal(arena.bytes.cpu(), expected(files, rows, before))


@pytest.mark.parametrize("words", [128, 64 << 10], ids=["narrow", "wide"])
@pytest.mark.parametrize("scattered", [False, True], ids=["in a run", "scattered"])
def test_rows_of_two_dimensional_tensors_go_both_ways(
    device: Device, tmp_path: Path, words: int, scattered: bool
) -> None:
    num_bytes = 16 * 4 * words * 8
    memory = torch.frombuffer(mmap.mmap(-1, num_bytes), dtype=torch.uint8)
    memory.copy_(noise(num_bytes))
    device.pin(memory)
    host = memory.view(torch.int64).view(16, 4 * words)[:, words // 2 : words // 2 + words]
    before = memory.clone()
    pool = device.open_arena(tmp_path, 1, 8 * words * 8).bytes.view(torch.int64).view(8, words)
    here, there = ([3, 15, 4, 0, 1], [6, 0, 7, 3, 4]) if scattered else ([2, 3, 4], [5, 6, 7])
    pool.fill_(-1)
    device.copy_rows(pool, there, host, here)
    device.synchronize()
    expected_pool = torch.full((8, words), -1)
    expected_pool[there] = host[here]
    assert torch.equal(pool.cpu(), expected_pool)
    host[here] = 0
    device.copy_rows(host, here, pool, there)
    device.synchronize()
    assert torch.equal(memory, before)


def test_slots_are_refilled_only_once_they_are_empty() -> None:
    driver = HostDriver()
    ring = StagingRing(driver, num_lanes=3, slot_bytes=256)
    files = [noise(64 << 10)]
    rows = [
        Rows.straight(0, 1, 0, 30_000),
        strided(7, 30_016, 96, 300),
        strided(9, 59_008, 700, 9, 4),
    ]
    target = torch.zeros(66_000, dtype=torch.uint8)
    staged = ring.stage(files, target.data_ptr(), rows)
    for _ in range(3):
        target.zero_()
        staged.copy()
        driver.current_stream().synchronize()
        assert torch.equal(target, expected(files, rows, torch.zeros_like(target)))


def test_the_second_process_opens_the_arena_of_the_first(tmp_path: Path) -> None:
    first, second = CudaDevice(HostDriver()), CudaDevice(HostDriver())
    a = first.open_arena(tmp_path, 0, 3 * MIB)
    b = second.open_arena(tmp_path, 0, MIB)
    a.bytes.copy_(noise(3 * MIB))
    assert b.bytes.numel() == MIB
    assert torch.equal(b.bytes, a.bytes[:MIB])


def test_an_arena_is_given_back_once_no_tensor_uses_it(tmp_path: Path) -> None:
    first, second = HostDriver(), HostDriver()
    a = CudaDevice(first).open_arena(tmp_path, 0, MIB)
    b = CudaDevice(second).open_arena(tmp_path, 0, MIB)
    view = b.bytes[5:]
    del b
    assert second.released == []
    del view
    assert len(second.released) == 1
    assert first.released == []
    del a
    assert len(first.released) == 1


def test_an_arena_on_another_gpu_is_refused(tmp_path: Path) -> None:
    held = CudaDevice(HostDriver()).open_arena(tmp_path, 0, MIB)
    with pytest.raises(IntegrityError, match="same GPUs"):
        CudaDevice(HostDriver(gpu="GPU-1")).open_arena(tmp_path, 0, MIB)
    assert held.bytes.numel() == MIB


def test_an_arena_too_small_for_the_second_process_is_refused(tmp_path: Path) -> None:
    held = CudaDevice(HostDriver()).open_arena(tmp_path, 0, MIB)
    with pytest.raises(IntegrityError, match="4194304 are needed"):
        CudaDevice(HostDriver()).open_arena(tmp_path, 0, 4 * MIB)
    assert held.bytes.numel() == MIB


def test_an_arena_whose_process_has_died_is_refused(tmp_path: Path) -> None:
    held = CudaDevice(HostDriver()).open_arena(tmp_path, 0, MIB)
    address = held.bytes.data_ptr()
    memory = HostDriver.allocations.pop(address)
    with pytest.raises(IntegrityError, match="cannot be opened"):
        CudaDevice(HostDriver()).open_arena(tmp_path, 0, MIB)
    HostDriver.allocations[address] = memory


def test_an_arena_that_does_not_fit_the_gpu_names_the_bytes(tmp_path: Path) -> None:
    device = CudaDevice(HostDriver(room=MIB))
    with pytest.raises(CapacityError, match="4194304 bytes of device memory needed"):
        device.open_arena(tmp_path, 0, 3 * MIB)
    assert not list(tmp_path.glob("*.json"))


def test_each_file_is_pinned_once_and_only_if_rows_use_it() -> None:
    driver = HostDriver()
    device = CudaDevice(driver)
    files = [noise(4096), noise(4096)]
    arena = ArenaMemory(bytes=torch.zeros(4096, dtype=torch.uint8))
    for _ in range(3):
        device.row_copier(files, arena, [Rows.straight(1, 0, 0, 64)])
    assert driver.registered == [(files[1].data_ptr(), 4096)]


def test_shared_memory_that_cannot_be_pinned_is_reported_not_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    CudaDevice(HostDriver(pins=False)).pin(noise(4096))
    assert "cannot pin 4096 bytes" in caplog.text
