"""A GPU's driver over host memory, with streams that run as late as possible.

So a slot that is reused too early, or a copy that is not waited for, leaves wrong bytes. The same
tests run on a real GPU if there is one.
"""

import ctypes
import mmap
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from seesaw_core.errors import BrokenError
from seesaw_worker.devices.cuda_driver import RowCopy


@dataclass
class LateEvent:
    stream: "LateStream"
    position: int

    def synchronize(self) -> None:
        self.stream.run(self.position)


@dataclass
class LateStream:
    """A stream that does nothing before it is waited for, unless it is torch's current one."""

    eager: bool = False
    work: list[Callable[[], Any]] = field(default_factory=list)
    done: int = 0
    lock: Any = field(default_factory=threading.RLock)

    def start(self, work: Callable[[], Any]) -> None:
        self.work.append(work)
        if self.eager:
            self.synchronize()

    def run(self, stop: int) -> None:
        with self.lock:
            while self.done < stop:
                self.done += 1
                self.work[self.done - 1]()

    def record_event(self) -> LateEvent:
        return LateEvent(self, len(self.work))

    def wait_event(self, event: LateEvent) -> None:
        self.start(event.synchronize)

    def synchronize(self) -> None:
        self.run(len(self.work))


class HostDriver:
    """:class:`seesaw_worker.devices.cuda_driver.Driver` over host memory, one per "process"."""

    allocations: ClassVar[dict[int, mmap.mmap]] = {}

    def __init__(self, *, pins: bool = True, gpu: str = "GPU-0", room: int = 1 << 30) -> None:
        self.pins = pins
        self.name = gpu
        self.room = room
        self.released: list[int] = []
        self.registered: list[tuple[int, int]] = []
        self.read_only: list[range] = []
        self.stream = LateStream(eager=True)

    def gpu(self) -> str:
        return self.name

    def allocate(self, num_bytes: int) -> int:
        if num_bytes > self.room:
            raise MemoryError(f"{num_bytes} bytes of device memory needed, {self.room} free")
        memory = mmap.mmap(-1, num_bytes)
        address: int = torch.frombuffer(memory, dtype=torch.uint8).data_ptr()
        self.allocations[address] = memory
        return address

    def free(self, address: int) -> None:
        self.released.append(address)

    def export(self, address: int) -> bytes:
        return address.to_bytes(64, "little")

    def open(self, handle: bytes) -> int:
        address = int.from_bytes(handle, "little")
        if address not in self.allocations:
            raise BrokenError("a CUDA call failed: CUDA_ERROR_INVALID_HANDLE (400)")
        return address

    def close(self, address: int) -> None:
        self.released.append(address)

    def tensor(self, address: int, num_bytes: int, owner: object) -> torch.Tensor:
        memory = (ctypes.c_uint8 * num_bytes).from_address(address)
        memory.owner = owner  # type: ignore[attr-defined]
        return torch.frombuffer(memory, dtype=torch.uint8)

    def register(self, address: int, num_bytes: int, *, writable: bool) -> bool:
        self.registered.append((address, num_bytes))
        if not writable:
            self.read_only.append(range(address, address + num_bytes))
        return self.pins

    def device_address(self, address: int) -> int:
        return address

    def pinned(self, num_bytes: int) -> torch.Tensor:
        return torch.zeros(num_bytes, dtype=torch.uint8)

    def current_stream(self) -> LateStream:
        return self.stream

    def new_stream(self) -> LateStream:
        return LateStream()

    def copy(self, rows: RowCopy, stream: LateStream) -> None:
        if any(rows.target in memory for memory in self.read_only):
            raise BrokenError("a CUDA call failed: CUDA_ERROR_INVALID_VALUE (1)")

        def move() -> None:
            for row in range(rows.count):
                ctypes.memmove(
                    rows.target + row * rows.target_pitch,
                    rows.source + row * rows.source_pitch,
                    rows.width,
                )

        stream.start(move)


class ChoosyDriver(HostDriver):
    """A driver that can pin only the first file."""

    def register(self, address: int, num_bytes: int, *, writable: bool) -> bool:
        pinned = super().register(address, num_bytes, writable=writable)
        return pinned and len(self.registered) == 1
