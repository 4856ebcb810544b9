"""Starts an engine's processes by forking from one that has already imported vLLM.

vLLM's CPU backend spawns every process, and each then imports torch and vLLM again, which takes
several hundred MiB and many seconds per process. A fork server imports them once, while the server
itself still starts, and its children share those pages. On CUDA, vLLM starts processes its own way.

This module imports nothing large at its top, since the fork server must start before such imports.
"""

import multiprocessing
import os
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import forkserver
from typing import Any

PLAIN_PRELOAD = (
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.model_executor.models.registry",
    "vllm.model_executor.models.llama",
)
_PRELOAD = (
    "seesaw_worker.upstream.log_filters",
    "seesaw_worker.processes.run_folder",
    *PLAIN_PRELOAD,
    "seesaw_worker.modes.resharding.worker",
    "seesaw_worker.modes.resharding.kv.connector",
)
BIND_VARIABLE = "VLLM_CPU_OMP_THREADS_BIND"


def start_fork_server(preload: Sequence[str] = _PRELOAD) -> None:
    """Start the imports in the fork server. Call once, early, after the environment is complete.

    Does nothing unless vLLM's CPU build is installed, which the package's name shows: importing
    vLLM to ask it would take too long here.
    """
    if find_cpu_build() is None:
        return
    multiprocessing.set_forkserver_preload(list(preload))
    forkserver.ensure_running()


def find_cpu_build() -> str | None:
    """Return the version of vLLM's CPU build, or None if another build is installed."""
    try:
        return version("vllm-cpu")
    except PackageNotFoundError:
        return None


def fork_instead_of_spawning() -> None:
    """Make ``multiprocessing`` fork from the one fork server where vLLM would spawn."""
    get_context = multiprocessing.get_context

    def get_forking_context(method: str | None = None) -> Any:
        return get_context("forkserver" if method == "spawn" else method)

    multiprocessing.get_context = get_forking_context
    server: Any = vars(forkserver)["_forkserver"]
    known = vars(server)
    if known["_forkserver_address"] is not None and known["_forkserver_pid"] is None:
        # In Python 3.11 a forked process would start another server, although it has the address.
        server.ensure_running = lambda: None


def bind_to_cores(cores: str) -> None:
    """Bind this process's threads to cores, such as ``0-3,8``. An empty list binds nothing.

    vLLM does so through OpenMP's environment, which a forked process reads too late.
    """
    if not cores:
        return
    import torch

    wanted = parse_cores(cores)
    os.sched_setaffinity(0, wanted)
    torch.set_num_threads(len(wanted))


def parse_cores(text: str) -> set[int]:
    """Return the cores of a list such as ``0-3,8``."""
    cores: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cores |= set(range(int(first), int(last or first) + 1))
    return cores


def divide_cores(num_devices: int) -> tuple[str, ...]:
    """Return the cores of each CPU device: as the user bound them, otherwise an even share."""
    bound = os.environ.get(BIND_VARIABLE, "nobind")
    if bound not in ("nobind", "auto"):
        groups = bound.split("|")
        return tuple(groups[device % len(groups)] for device in range(num_devices))
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // num_devices)
    return tuple(
        ",".join(str(cores[(device * share + i) % len(cores)]) for i in range(share))
        for device in range(num_devices)
    )
