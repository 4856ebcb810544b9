"""vLLM's model loader for the shared arena: it loads once, and records what to replay.

The ranks of the prefill engine load first and those of the decode engine second, since both write
the same arena. After loading, the decode engine owns the devices.
"""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from vllm.config import ModelConfig, VllmConfig
from vllm.config.load import LoadConfig
from vllm.logger import init_logger
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from seesaw_worker.devices import current_device
from seesaw_worker.modes.resharding.weights.arena import Arena
from seesaw_worker.modes.resharding.weights.host import HostModel, no_safetensors
from seesaw_worker.modes.resharding.weights.recorder import recording
from seesaw_worker.modes.resharding.weights.replay import WeightsReplay
from seesaw_worker.processes.control_page import ControlPage, Role
from seesaw_worker.settings.engine import EngineSettings

logger = init_logger("vllm.seesaw.loader")

LOAD_FORMAT = "seesaw"
_TURN_POLL_S = 0.02


class SharedArenaLoader(DefaultModelLoader):
    """Loads a rank's weights into the device's shared arena.

    After ``load_model``, ``replay`` holds what to replay, and the engine owns the device.
    Raises: ModelError if the checkpoint cannot be mapped; CapacityError if the arena is too small.
    """

    replay: WeightsReplay | None = None

    def __init__(self, load_config: LoadConfig) -> None:
        super().__init__(dataclasses.replace(load_config, load_format="safetensors"))
        self._host: HostModel | None = None
        self._arena: Arena | None = None

    def load_model(
        self, vllm_config: VllmConfig, model_config: ModelConfig, prefix: str = ""
    ) -> nn.Module:
        settings = EngineSettings.of(vllm_config.additional_config)
        index = vllm_config.parallel_config.rank
        control = ControlPage(settings.folder, settings.layout.num_devices)
        _await_turn(control, settings.role)
        device = current_device()
        memory = device.open_arena(settings.folder, index, settings.arena_bytes[index])
        self._host = HostModel(self._checkpoint_files(model_config))
        if not self._host.lock_pages():
            logger.warning(
                "the checkpoint's pages cannot be locked in memory (RLIMIT_MEMLOCK): transitions "
                "may wait for the disk if memory is short or the pages are unused for long"
            )
        self._arena = Arena(memory)
        with (
            self._arena.placing_parameters(),
            recording(self._host, self._arena.find) as ops,
        ):
            model = super().load_model(vllm_config, model_config, prefix)
        device.settle_arena(settings.folder, index, self._arena.used_bytes)
        live = [p.data for p in model.parameters() if p.numel()]
        replay = WeightsReplay(
            arena=self._arena, host=self._host, device=device, ops=ops, live=live
        )
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()  # the replay's checks took as much as a region
        logger.info("weights of %s rank %d: %s", settings.role.title, index, replay.summary)
        type(self).replay = replay
        control.give_up(index, settings.role.other)
        control.take(index, settings.role)
        control.set_loaded(index, settings.role, replay.identity())
        return model

    def get_all_weights(
        self, model_config: ModelConfig, model: nn.Module
    ) -> Iterator[tuple[str, torch.Tensor]]:
        assert self._host is not None, "load_model maps the host copy first"
        yield from self._host.tensors()

    def _checkpoint_files(self, model_config: ModelConfig) -> list[Path]:
        _, files, is_safetensors, *_ = self._prepare_weights(
            model_config.model,
            None,
            model_config.revision,
            fall_back_to_pt=False,
            allow_patterns_overrides=None,
        )
        if not is_safetensors:
            raise no_safetensors(model_config.model)
        return [Path(file) for file in files]


def register() -> None:
    """Register the loader with vLLM, once per process."""
    from vllm.model_executor.model_loader import get_model_loader

    try:
        get_model_loader(LoadConfig(load_format=LOAD_FORMAT))
    except ValueError:
        register_model_loader(LOAD_FORMAT)(SharedArenaLoader)


def _await_turn(control: ControlPage, role: Role) -> None:
    """Wait until the other engine no longer writes the arenas. Only the decode engine waits."""
    if role is Role.PREFILL:
        return
    while control.num_loaded(Role.PREFILL) < control.num_devices:
        time.sleep(_TURN_POLL_S)
