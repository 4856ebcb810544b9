"""The differences between CPU and CUDA, behind one small interface."""

from seesaw_worker.devices.base import Device
from seesaw_worker.upstream.platform import is_cuda


def current_device() -> Device:
    """Return the kind of device of the installed vLLM, CPU or CUDA."""
    if is_cuda():
        from seesaw_worker.devices.cuda import CudaDevice

        return CudaDevice()
    from seesaw_worker.devices.cpu import CpuDevice

    return CpuDevice()
