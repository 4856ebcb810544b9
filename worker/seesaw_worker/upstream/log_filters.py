"""Drops log lines that are of no use to a user of Seesaw. Every process imports this first.

vLLM and torch warn about conditions that always hold on a machine without a GPU, or that follow
from Seesaw's own configuration of the engines. All other lines are kept. This module imports
neither of the two.
"""

import logging
import warnings

NOISE = {
    "uvicorn.error": (
        "Started server process",
        "Waiting for application",
        "Application startup complete",
        "Application shutdown complete",
        "Shutting down",
        "Finished server process",
    ),
    "torch.utils.flop_counter": ("triton not found",),
    "torch._library.triton": ("Triton not available",),
    "vllm.config.vllm": (
        "Enforce eager set",
        "Inductor compilation was disabled",
        "Model Runner V2 requires Triton",
        "Async scheduling is disabled because the V1 model runner",
        "Turning off hybrid kv cache manager",
    ),
    "vllm.platforms.cpu": (
        "Triton is not installed",
        "Reset SSM cache type",
    ),
    "vllm.model_executor.model_loader.weight_utils": ("Failed to get file list",),
    "vllm.transformers_utils.repo_utils": ("%s: %s", "Error retrieving file list"),
    "vllm.v1.worker.cpu_worker": ("%s is not found in LD_PRELOAD",),
    "vllm.distributed.kv_transfer.kv_connector.v1.base": ("Initializing KVConnectorBase_V1",),
}
"""The beginnings of the messages that are dropped, by logger."""


class _Noise(logging.Filter):
    def __init__(self, starts: tuple[str, ...]) -> None:
        super().__init__()
        self._starts = starts

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(self._starts)


def drop_noise() -> None:
    """Add the filters of the table to their loggers, once per process."""
    for name, starts in NOISE.items():
        logger = logging.getLogger(name)
        if not any(isinstance(f, _Noise) for f in logger.filters):
            logger.addFilter(_Noise(starts))


drop_noise()
warnings.filterwarnings("ignore", message="`torch.distributed.reduce_op`", category=FutureWarning)
