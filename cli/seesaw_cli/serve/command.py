"""``seesaw serve MODEL``: a router and one worker on this machine, without Kubernetes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from seesaw_core.errors import InputError


def run(arguments: Sequence[str]) -> int:
    """Serve until told to stop. The router's flags are its own; all others go to the worker.

    Raises: InputError.
    """
    from seesaw_cli.serve.flags import check_worker_flags
    from seesaw_cli.serve.local import free_port
    from seesaw_router.flags import parser, settings_from
    from seesaw_worker.processes.supervisor import PARENT_PID_VARIABLE
    from seesaw_worker.server.flags import check_own_flags
    from seesaw_worker.settings.model_path import check_model_path

    made = parser()
    made.prog = "seesaw serve MODEL"
    made.description = (
        "A router and one worker on this machine. The flags below are the router's; all others "
        "go to the worker: see seesaw worker --help."
    )
    made.epilog = "Example: seesaw serve my/model --port 8000 --decode-tensor-parallel-size 2"
    args, for_worker = made.parse_known_args(arguments)
    if args.worker:
        raise InputError("seesaw serve starts its own worker; use seesaw router for others")
    if not for_worker or for_worker[0].startswith("-"):
        raise InputError("give the model first: seesaw serve MODEL [options]")
    check_worker_flags(for_worker)
    check_own_flags(for_worker)
    check_model_path(for_worker[0])
    port = free_port()
    args.worker = [f"http://127.0.0.1:{port}"]
    settings = settings_from(args)
    from seesaw_router.server.process import Server

    server = Server(settings)
    command = [sys.executable, "-m", "seesaw_cli.main", "worker", *for_worker]
    # The router stops waiting first, so that the worker still answers what it has let through.
    drain = f"--drain-timeout-s={settings.drain_timeout_s}"
    worker = subprocess.Popen(
        [*command, "--host=127.0.0.1", f"--port={port}", drain],
        env=os.environ | {PARENT_PID_VARIABLE: str(os.getpid())},
    )

    def watch() -> None:
        worker.wait()
        server.stop()

    threading.Thread(target=watch, daemon=True).start()
    try:
        code = server.run()
    finally:
        lost = worker.poll()
        if lost is None:
            worker.send_signal(signal.SIGTERM)
            lost = _ended(worker)
    return code or lost


def _ended(worker: "subprocess.Popen[bytes]") -> int:
    """Wait for the worker, which finishes what it has."""
    while True:
        try:
            return worker.wait()
        except KeyboardInterrupt:
            worker.send_signal(signal.SIGTERM)  # the second one ends it at once
