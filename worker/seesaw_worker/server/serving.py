"""From parsed flags to a running worker: settings, the plan, and what does not go together."""

import os
from argparse import Namespace
from pathlib import Path

from seesaw_core.errors import InputError
from seesaw_core.resharding.policy import Reshard
from seesaw_worker.planning.start import make_start_plan
from seesaw_worker.server.commandline import vllm_defaults
from seesaw_worker.server.flags import settings_of
from seesaw_worker.server.model_path import check_model_path
from seesaw_worker.server.openai_server import WorkerServer
from seesaw_worker.settings.engine import WeightsMode
from seesaw_worker.upstream.vllm_environment import refuse_environment
from seesaw_worker.upstream.vllm_flags import refuse_vllm_flags


def serve(args: Namespace) -> int:
    """Serve a model by parsed flags. Returns the exit code. Raises: InputError."""
    import uvloop

    settings = settings_of(args)
    check_model_path(args.model)
    if args.log_config_file and not Path(args.log_config_file).is_file():
        raise InputError(f"--log-config-file={args.log_config_file}: no such file")
    planned = make_start_plan(args, settings) if settings.is_planned else None
    if planned is not None:
        settings = planned.settings(settings)
    refuse_vllm_flags(
        args,
        vllm_defaults(),
        reshards=settings.reshard is not Reshard.NEVER,
        shares_weights=settings.weights is WeightsMode.SHARED,
    )
    if settings.reshard is not Reshard.NEVER:
        refuse_environment(os.environ)

    async def run() -> int:
        return await WorkerServer(args, settings, planned).run()

    return int(uvloop.run(run()))
