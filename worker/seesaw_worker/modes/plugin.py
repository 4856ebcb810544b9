"""The plugin through which vLLM calls Seesaw in every process that it starts.

It does nothing unless the process belongs to a Seesaw worker, so that plain vLLM in the same
environment is not changed.
"""

import os
from functools import cache

SERVER_PID_VARIABLE = "SEESAW_SERVER_PID"


def register() -> None:
    """Set up this process if it belongs to a Seesaw worker. Safe to call again."""
    server_pid = os.environ.get(SERVER_PID_VARIABLE)
    if server_pid is not None:
        _register(server_pid)


@cache
def _register(server_pid: str) -> None:
    from vllm.platforms import current_platform

    from seesaw_worker.modes.resharding.weights import loader
    from seesaw_worker.processes import forking
    from seesaw_worker.processes.run_folder import WorkerFiles, tag_shared_memory
    from seesaw_worker.processes.watchdog import die_with
    from seesaw_worker.upstream import crash_reasons, patches

    if int(server_pid) != os.getpid():
        die_with(int(server_pid))
        crash_reasons.record_causes()
    patches.calm_idle_readers()
    patches.reserve_message_queues()
    if (files := WorkerFiles.current()) is not None:
        tag_shared_memory()
        patches.name_rendezvous(files.new_rendezvous)
    if current_platform.is_cpu():
        forking.fork_instead_of_spawning()
        patches.rewind_seeded_generators_on_cpu()
    loader.register()
