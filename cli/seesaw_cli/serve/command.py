"""``seesaw serve MODEL``: a router and one worker on this machine, without Kubernetes."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from seesaw_core.errors import InputError


def run(arguments: Sequence[str]) -> int:
    """Serve until a signal stops it. The router takes its own flags, the worker all others.

    Raises: InputError.
    """
    from seesaw_cli.serve.flags import check_worker_flags
    from seesaw_cli.serve.local import free_port
    from seesaw_router.flags import parser, settings_from
    from seesaw_worker.processes.supervisor import PARENT_PID_VARIABLE
    from seesaw_worker.server.flags import check_own_flags
    from seesaw_worker.settings.model_path import check_model_path

    router_parser = parser()
    router_parser.prog = "seesaw serve MODEL"
    router_parser.description = (
        "Serve MODEL with a router and one worker on this machine. The flags below are the "
        "router's; all others go to the worker: see seesaw worker --help."
    )
    router_parser.epilog = (
        "Example: seesaw serve my/model --port 8000 --decode-tensor-parallel-size 2"
    )
    args, worker_arguments = router_parser.parse_known_args(arguments)
    if args.worker:
        raise InputError("seesaw serve starts its own worker; use seesaw router for others")
    if not worker_arguments or worker_arguments[0].startswith("-"):
        raise InputError("give the model first: seesaw serve MODEL [options]")
    check_worker_flags(worker_arguments)
    check_own_flags(worker_arguments)
    check_model_path(worker_arguments[0])
    port = free_port()
    args.worker = [f"http://127.0.0.1:{port}"]
    settings = settings_from(args)
    from seesaw_router.server.process import Server

    server = Server(settings)
    command = [sys.executable, "-m", "seesaw_cli.main", "worker", *worker_arguments]
    # Both drain equally long. The router begins first, so the worker answers what it has received.
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
        worker_code = worker.poll()
        if worker_code is None:
            worker.send_signal(signal.SIGTERM)
            worker_code = _wait(worker)
    return code or worker_code


def _wait(worker: "subprocess.Popen[bytes]") -> int:
    """Wait until the worker has finished its requests. Returns its exit code."""
    while True:
        try:
            return worker.wait()
        except KeyboardInterrupt:
            worker.send_signal(signal.SIGTERM)  # the second one ends it at once
