"""What differs between CPU and CUDA, behind one small seam."""

from seesaw_worker.devices.base import Device


def current_device() -> Device:
    """The device kind of the vLLM that is installed, CPU or CUDA."""
    from vllm.platforms import current_platform

    if current_platform.is_cuda():
        from seesaw_worker.devices.cuda import CudaDevice

        return CudaDevice()
    from seesaw_worker.devices.cpu import CpuDevice

    return CpuDevice()
