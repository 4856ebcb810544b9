"""Chooses the mode of a worker by its settings."""

import os
from argparse import Namespace
from collections.abc import Mapping

from seesaw_core.resharding.policy import Reshard
from seesaw_worker.modes.mode import Mode
from seesaw_worker.settings.engine import WeightsMode
from seesaw_worker.settings.worker import WorkerSettings
from seesaw_worker.upstream.vllm_environment import refuse_environment
from seesaw_worker.upstream.vllm_flags import refuse_vllm_flags


def mode_of(args: Namespace, settings: WorkerSettings, defaults: Mapping[str, object]) -> Mode:
    """Return the mode that the flags ask for. ``defaults`` are those of vLLM's flags.

    Raises: InputError naming a flag or variable that the mode does not support.
    """
    if settings.elastic_instances:
        from seesaw_worker.modes.elastic.mode import ElasticMode

        return ElasticMode(args, settings, defaults)
    if settings.reshard is Reshard.NEVER:
        from seesaw_worker.modes.static.mode import StaticMode

        refuse_vllm_flags(args, defaults, reshards=False, shares_weights=False)
        return StaticMode(args, settings.decode)
    from seesaw_worker.modes.resharding.mode import ReshardingMode

    is_shared = settings.weights is WeightsMode.SHARED
    refuse_vllm_flags(args, defaults, reshards=True, shares_weights=is_shared)
    refuse_environment(os.environ)
    return ReshardingMode(args, settings)
