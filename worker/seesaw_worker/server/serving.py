"""Starts a worker from parsed flags: settings, layout plan, mode and server."""

from argparse import Namespace
from pathlib import Path

from seesaw_core.errors import InputError
from seesaw_worker.modes.choose import mode_of
from seesaw_worker.planning.start import make_start_plan
from seesaw_worker.server.commandline import vllm_defaults
from seesaw_worker.server.settings import settings_of
from seesaw_worker.server.worker_server import WorkerServer
from seesaw_worker.settings.model_path import check_model_path


def serve(args: Namespace) -> int:
    """Serve a model as the flags say. Returns the exit code. Raises: InputError."""
    import uvloop

    settings = settings_of(args)
    check_model_path(args.model)
    if args.log_config_file and not Path(args.log_config_file).is_file():
        raise InputError(f"--log-config-file={args.log_config_file}: no such file")
    planned = make_start_plan(args, settings) if settings.is_planned else None
    if planned is not None:
        settings = planned.settings(settings)
    mode = mode_of(args, settings, vllm_defaults())

    async def run() -> int:
        return await WorkerServer(args, settings, mode, planned).run()

    return int(uvloop.run(run()))
