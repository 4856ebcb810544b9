"""Creates vLLM's configuration of both engines from one set of ``vllm serve`` flags."""

import dataclasses
import os
from pathlib import Path

from vllm.config import KVTransferConfig, VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext

from seesaw_core.errors import CapacityError
from seesaw_core.layouts import Layout, ModelShape, check_pair
from seesaw_core.planner.costs import prefill_pool_tokens
from seesaw_core.resharding.weights import TensorInfo, arena_bytes
from seesaw_core.units import GIB
from seesaw_worker.modes.resharding.attention import choose_block_size
from seesaw_worker.modes.resharding.limits import (
    refuse_cache_settings,
    refuse_models,
    refuse_quantization,
)
from seesaw_worker.modes.resharding.shared_memory import check_shared_memory
from seesaw_worker.modes.resharding.sizes import (
    Parts,
    Sizes,
    at_least_gib,
    divide_memory,
    kv_item_bytes,
)
from seesaw_worker.modes.resharding.weights.loader import LOAD_FORMAT
from seesaw_worker.modes.vllm_config import create_config, with_layout
from seesaw_worker.processes.control_page import Role
from seesaw_worker.processes.forking import divide_cores
from seesaw_worker.settings.engine import EngineSettings, WeightsMode
from seesaw_worker.settings.worker import WorkerSettings

_ARENA_SLACK = 1.02
_ARENA_SLACK_BYTES = 8 << 20
_KV_SPACE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"
_RUNNER_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfigs:
    """Both engines' vLLM configurations, with the settings that they carry."""

    prefill: VllmConfig
    decode: VllmConfig
    settings: EngineSettings
    sizes: Sizes


def choose_model_runner() -> None:
    """Choose vLLM's first model runner on GPUs, unless the user names one.

    The second runner, vLLM's default where Triton works, has not been tested with re-sharding on a
    GPU, and the CPU build lacks Triton.
    """
    if not current_platform.is_cpu():
        os.environ.setdefault(_RUNNER_VARIABLE, "0")


def probe(args: AsyncEngineArgs) -> VllmConfig:
    """Return a configuration on one device, which shows the model's shape.

    Raises: InputError if the flags or the model's files are wrong; UnsupportedError for a
    quantization that re-sharding does not support.
    """
    refuse_quantization(args)
    choose_model_runner()
    return create_config(with_layout(args, Layout()), UsageContext.OPENAI_API_SERVER)


def engine_configs(
    args: AsyncEngineArgs,
    settings: WorkerSettings,
    *,
    folder: Path,
    shape: ModelShape,
    tensors: tuple[TensorInfo, ...],
) -> EngineConfigs:
    """Create both engines' configurations, and refuse what re-sharding does not support.

    Raises: LayoutError, UnsupportedError, CapacityError.
    """
    check_pair(settings.prefill, settings.decode, shape)
    decode_args = with_layout(args, settings.decode)
    config = create_config(decode_args, UsageContext.OPENAI_API_SERVER)
    os.environ.pop(_KV_SPACE_VARIABLE, None)  # it sizes the decode pool, not the prefill pool
    refuse_models(config)
    refuse_cache_settings(config)
    common = _engine_settings(settings, config, folder=folder, shape=shape, tensors=tensors)
    prefill_len = min(
        config.model_config.max_model_len, common.num_buffer_blocks * common.block_size + 1
    )
    parts = Parts(
        buffer_bytes=common.num_buffer_blocks * common.block_bytes,
        arenas=common.arena_bytes,
        prefill_tokens=prefill_pool_tokens(
            settings.prefill,
            prefill_len,
            int(config.scheduler_config.max_num_batched_tokens),
        ),
        block_bytes=common.block_bytes,
        block_size=common.block_size,
    )
    check_shared_memory(settings, parts.buffer_bytes, sum(parts.arenas))
    sizes = divide_memory(settings, config, parts)
    decode_args = _seesaw_args(decode_args, common)
    _set_memory(decode_args, sizes.decode_pool_bytes, sizes.decode_share)
    prefill_args = _prefill_args(args, common, sizes, max_model_len=prefill_len)
    return EngineConfigs(
        prefill=create_config(prefill_args, UsageContext.ENGINE_CONTEXT),
        decode=create_config(decode_args, UsageContext.OPENAI_API_SERVER),
        settings=common,
        sizes=sizes,
    )


def _engine_settings(
    settings: WorkerSettings,
    config: VllmConfig,
    *,
    folder: Path,
    shape: ModelShape,
    tensors: tuple[TensorInfo, ...],
) -> EngineSettings:
    """Return the decode engine's settings. Raises: CapacityError if the buffer is too small."""
    block_size = choose_block_size(config)
    page_bytes = 2 * block_size * shape.head_dim * kv_item_bytes(config)
    block_bytes = shape.num_layers * shape.num_kv_heads * page_bytes
    num_blocks = int(settings.kv_buffer_gib * GIB) // block_bytes
    if num_blocks < 1:
        raise CapacityError(
            f"--kv-buffer-gib={settings.kv_buffer_gib} is too small for one block of {block_size} "
            f"tokens, which takes {block_bytes} bytes; give at least {at_least_gib(block_bytes)}"
        )
    return EngineSettings(
        role=Role.DECODE,
        folder=folder,
        server_pid=os.getpid(),
        prefill=settings.prefill,
        decode=settings.decode,
        shape=shape,
        weights=settings.weights,
        arena_bytes=_arena_sizes(settings, shape, tensors),
        block_size=block_size,
        page_bytes=page_bytes,
        num_buffer_blocks=num_blocks,
        cores=_cores(settings.decode.num_devices),
        verify_kv=settings.verify_kv,
        always_replay=settings.always_replay,
    )


def _arena_sizes(
    settings: WorkerSettings, shape: ModelShape, tensors: tuple[TensorInfo, ...]
) -> tuple[int, ...]:
    if settings.weights is not WeightsMode.SHARED:
        return (0,) * settings.decode.num_devices
    exact = arena_bytes(tensors, settings.prefill, settings.decode, shape)
    return tuple(int(size * _ARENA_SLACK) + _ARENA_SLACK_BYTES for size in exact)


def _prefill_args(
    args: AsyncEngineArgs, common: EngineSettings, sizes: Sizes, *, max_model_len: int
) -> AsyncEngineArgs:
    prefill_args = _seesaw_args(
        with_layout(args, common.prefill), dataclasses.replace(common, role=Role.PREFILL)
    )
    _set_memory(prefill_args, sizes.prefill_pool_bytes, sizes.prefill_share)
    prefill_args.max_model_len = max_model_len
    prefill_args.enforce_eager = True  # each layer must return to Python, which saves its KV
    prefill_args.disable_log_stats = True
    prefill_args.enable_lora = False
    prefill_args.num_gpu_blocks_override = None
    return prefill_args


def _cores(num_devices: int) -> tuple[str, ...]:
    return divide_cores(num_devices) if current_platform.is_cpu() else ("",) * num_devices


def _set_memory(args: AsyncEngineArgs, pool_bytes: int, share: float | None) -> None:
    args.kv_cache_memory_bytes = pool_bytes
    if share is not None:
        args.gpu_memory_utilization = share


def _seesaw_args(args: AsyncEngineArgs, settings: EngineSettings) -> AsyncEngineArgs:
    is_prefill = settings.role is Role.PREFILL
    shared = settings.weights is WeightsMode.SHARED
    return dataclasses.replace(
        args,
        worker_cls="seesaw_worker.modes.resharding.worker.SeesawWorker",
        block_size=settings.block_size,
        load_format=LOAD_FORMAT if shared else args.load_format,
        additional_config=dict(args.additional_config or {}) | settings.to_additional_config(),
        kv_transfer_config=KVTransferConfig(
            kv_connector="SeesawConnector",
            kv_connector_module_path="seesaw_worker.modes.resharding.kv.connector",
            kv_role="kv_producer" if is_prefill else "kv_consumer",
        ),
        disable_hybrid_kv_cache_manager=True,
    )
