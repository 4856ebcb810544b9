"""The CUDA calls that Seesaw makes itself, for the device that was current when it started.

Only this module uses cuda-bindings and torch's streams; tests replace it by host memory. It calls
the driver API rather than the runtime API, since an error of a runtime call is kept, and a later,
unrelated call of torch would report it. The module knows nothing of weights or KV.
"""

import threading
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from seesaw_core.errors import BrokenError


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCopy:
    """``count`` rows of ``width`` bytes between host and device. Units: addresses and bytes."""

    to_device: bool
    source: int
    source_pitch: int
    target: int
    target_pitch: int
    width: int
    count: int


class Driver(Protocol):
    """What :class:`seesaw_worker.devices.cuda.CudaDevice` needs of CUDA.

    Streams and events are torch's: ``stream.wait_event``, ``stream.record_event``,
    ``event.synchronize``. Every call may come from any thread.
    """

    def gpu(self) -> str:
        """Return the device's UUID, which is the same in every process."""
        ...

    def allocate(self, num_bytes: int) -> int:
        """Allocate device memory. Raises: MemoryError if it does not fit."""
        ...

    def free(self, address: int) -> None: ...

    def export(self, address: int) -> bytes:
        """Return a handle with which other processes open the allocation."""
        ...

    def open(self, handle: bytes) -> int:
        """Open another process's allocation. Raises: BrokenError if that process has ended."""
        ...

    def close(self, address: int) -> None: ...

    def tensor(self, address: int, num_bytes: int, owner: object) -> torch.Tensor:
        """Return device memory as a tensor of bytes, which keeps ``owner`` alive."""
        ...

    def register(self, address: int, num_bytes: int, *, writable: bool) -> bool:
        """Pin host memory as long as the process lives. Returns False if CUDA refuses.

        Only memory pinned as ``writable`` may be the target of a copy.
        """
        ...

    def device_address(self, address: int) -> int:
        """Return the device's address of pinned host memory."""
        ...

    def pinned(self, num_bytes: int) -> torch.Tensor: ...

    def current_stream(self) -> Any: ...

    def new_stream(self) -> Any: ...

    def copy(self, rows: RowCopy, stream: Any) -> None:
        """Start a copy, and wait for it if the host memory is not pinned."""
        ...


class CudaDriver:
    """Implements :class:`Driver` on a GPU."""

    def __init__(self) -> None:
        from cuda.bindings import driver  # comes with torch's CUDA builds, and with no other

        torch.cuda.init()
        self._cu: Any = driver
        self._ordinal: int = torch.cuda.current_device()
        device = self._check(driver.cuDeviceGet(self._ordinal))
        self._context = self._check(driver.cuDevicePrimaryCtxRetain(device))
        attribute = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED
        self._pins_read_only = bool(self._check(driver.cuDeviceGetAttribute(attribute, device)))
        self._entered = threading.local()
        self._enter()

    def gpu(self) -> str:
        return str(torch.cuda.get_device_properties(self._ordinal).uuid)

    def allocate(self, num_bytes: int) -> int:
        self._enter()
        error, address = self._cu.cuMemAlloc(num_bytes)
        if error == self._cu.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            free, _ = torch.cuda.mem_get_info(self._ordinal)
            raise MemoryError(f"{num_bytes} bytes of device memory needed, {free} free")
        return int(self._check((error, address)))

    def free(self, address: int) -> None:
        self._enter()
        self._check(self._cu.cuMemFree(address))

    def export(self, address: int) -> bytes:
        self._enter()
        return bytes(self._check(self._cu.cuIpcGetMemHandle(address)).reserved)

    def open(self, handle: bytes) -> int:
        self._enter()
        opened = self._cu.CUipcMemHandle()
        opened.reserved = handle
        lazy = self._cu.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
        return int(self._check(self._cu.cuIpcOpenMemHandle(opened, int(lazy))))

    def close(self, address: int) -> None:
        self._enter()
        self._check(self._cu.cuIpcCloseMemHandle(address))

    def tensor(self, address: int, num_bytes: int, owner: object) -> torch.Tensor:
        exposed = _Exposed(address, num_bytes, owner)
        tensor = torch.as_tensor(exposed, device=torch.device("cuda", self._ordinal))
        assert tensor.data_ptr() == address, "torch copied what it should have shared"
        return tensor

    def register(self, address: int, num_bytes: int, *, writable: bool) -> bool:
        """Register host memory with CUDA, read-only where that suffices and is supported.

        A mapping without write permission can only be pinned read-only, which most GPUs on PCIe do
        not support. Memory-backed files that are mapped writable can be pinned on all GPUs.
        """
        self._enter()
        cu = self._cu
        plain = cu.CU_MEMHOSTREGISTER_PORTABLE | cu.CU_MEMHOSTREGISTER_DEVICEMAP
        read_only = self._pins_read_only and not writable
        flags = [plain | cu.CU_MEMHOSTREGISTER_READ_ONLY] if read_only else []
        done = cu.CUresult.CUDA_SUCCESS
        return any(cu.cuMemHostRegister(address, num_bytes, f)[0] == done for f in [*flags, plain])

    def device_address(self, address: int) -> int:
        self._enter()
        return int(self._check(self._cu.cuMemHostGetDevicePointer(address, 0)))

    def pinned(self, num_bytes: int) -> torch.Tensor:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def current_stream(self) -> Any:
        return torch.cuda.current_stream(self._ordinal)

    def new_stream(self) -> Any:
        return torch.cuda.Stream(self._ordinal)

    def copy(self, rows: RowCopy, stream: Any) -> None:
        self._enter()
        cu, handle = self._cu, stream.cuda_stream
        if rows.count == 1:
            start = cu.cuMemcpyHtoDAsync if rows.to_device else cu.cuMemcpyDtoHAsync
            self._check(start(rows.target, rows.source, rows.width, handle))
            return
        shape = cu.CUDA_MEMCPY2D()
        shape.srcPitch, shape.dstPitch = rows.source_pitch, rows.target_pitch
        shape.WidthInBytes, shape.Height = rows.width, rows.count
        host, device = (
            cu.CUmemorytype.CU_MEMORYTYPE_HOST,
            cu.CUmemorytype.CU_MEMORYTYPE_DEVICE,
        )
        if rows.to_device:
            shape.srcMemoryType, shape.srcHost = host, rows.source
            shape.dstMemoryType, shape.dstDevice = device, rows.target
        else:
            shape.srcMemoryType, shape.srcDevice = device, rows.source
            shape.dstMemoryType, shape.dstHost = host, rows.target
        self._check(cu.cuMemcpy2DAsync(shape, handle))

    def _enter(self) -> None:
        """Make this thread use the device, which torch does only at its first launch."""
        if not getattr(self._entered, "yes", False):
            self._check(self._cu.cuCtxSetCurrent(self._context))
            self._entered.yes = True

    def _check(self, result: tuple[Any, ...]) -> Any:
        """Return the result of a driver call. Raises: BrokenError if the call failed."""
        error, *values = result
        if error != self._cu.CUresult.CUDA_SUCCESS:
            raise BrokenError(f"a CUDA call failed: {error.name} ({int(error)})")
        return values[0] if values else None


class _Exposed:
    """Device memory as torch imports it. A tensor over it keeps it alive."""

    def __init__(self, address: int, num_bytes: int, owner: object) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": (num_bytes,),
            "strides": None,
            "typestr": "|u1",
            "version": 3,
        }
