"""Checks that there is room for a worker's shared memory, both Seesaw's and vLLM's."""

from vllm.platforms import current_platform

from seesaw_core.layouts import Layout
from seesaw_worker.modes.resharding.sizes import arenas_in_shared_memory
from seesaw_worker.processes.run_folder import SHM
from seesaw_worker.processes.shm import check_room
from seesaw_worker.settings.worker import WorkerSettings
from seesaw_worker.upstream.patches import QUEUE_CHUNK_BYTES

_QUEUE_CHUNKS = 10
_GROUP_CHUNKS = 6
_COLLECTIVE_BYTES = (4 << 20) + 256


def check_shared_memory(settings: WorkerSettings, buffer_bytes: int, arena_bytes: int) -> None:
    """Refuse what shared memory cannot hold: Seesaw's is in ``--shm-dir``, vLLM's in /dev/shm.

    ``arena_bytes``: of all devices. Raises: CapacityError.
    """
    own_bytes, contents = buffer_bytes, ["the KV buffer"]
    if arenas_in_shared_memory():
        own_bytes += arena_bytes
        contents.append("the weights arenas")
    vllm_bytes = vllm_shared_bytes(settings.prefill) + vllm_shared_bytes(settings.decode)
    queues = "vLLM's message queues"
    if SHM.exists() and settings.shm_dir.stat().st_dev != SHM.stat().st_dev:
        check_room(SHM, vllm_bytes, for_what=queues, flag="the number of devices")
    else:
        own_bytes += vllm_bytes
        contents.append(queues)
    *first, last = contents
    named = f"{', '.join(first)} and {last}" if first else last
    check_room(settings.shm_dir, own_bytes, for_what=named, flag="--kv-buffer-gib")


def vllm_shared_bytes(layout: Layout) -> int:
    """Return the bytes of ``/dev/shm`` that vLLM reserves for one engine at its start.

    They hold a queue from the core to all ranks, one back from each rank and one in each
    tensor-parallel group, and on the CPU each rank's buffers for the collectives of its groups.
    Source: ``MultiprocExecutor``, ``GroupCoordinator`` and ``csrc/cpu/shm.cpp`` of vLLM 0.32.
    """
    ranks = layout.num_devices
    num_chunks = _QUEUE_CHUNKS * (1 + ranks)
    if layout.tensor > 1:
        num_chunks += _GROUP_CHUNKS * layout.pipeline
    num_groups = (layout.tensor > 1) + (layout.pipeline > 1) if current_platform.is_cpu() else 0
    queues = num_chunks * (QUEUE_CHUNK_BYTES + 1 + ranks)
    return queues + num_groups * ranks * _COLLECTIVE_BYTES
