"""Main memory of a worker's processes, besides weights, KV and shared memory.

The worker counts it when it divides a machine's memory, the operator when it requests a pod's.
"""

from seesaw_core.units import MIB

# An allowance. `seesaw bench worker` measures 224 MiB for the server, an engine core or the fork
# server on average, and 340 to 450 MiB for a rank without its KV pools.
PROCESS_BYTES = 700 * MIB


def processes_bytes(num_devices: int) -> int:
    """Bytes for a rank of each of two engines on every device, two engine cores and the server.

    The supervisor and the fork server hold next to nothing of their own.
    """
    return (2 * num_devices + 3) * PROCESS_BYTES
