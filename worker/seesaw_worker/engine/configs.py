"""vLLM's configuration of both engines, made from one set of ``vllm serve`` flags."""

import dataclasses
import math
import os
from pathlib import Path

import psutil
from vllm.config import KVTransferConfig, VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext
from vllm.utils.torch_utils import STR_DTYPE_TO_TORCH_DTYPE

from seesaw_core.errors import CapacityError, UnsupportedError
from seesaw_core.layouts import Layout, ModelShape, check_pair
from seesaw_core.weights import TensorInfo, arena_bytes
from seesaw_worker.control import Role
from seesaw_worker.engine.processes import BIND_VARIABLE, divide_cores
from seesaw_worker.engine.settings import EngineSettings, WeightsMode
from seesaw_worker.refusals import refusals
from seesaw_worker.settings import WorkerSettings
from seesaw_worker.shm import GIB, check_room
from seesaw_worker.weights.loader import LOAD_FORMAT

_ARENA_SLACK = 1.02
_ARENA_SLACK_BYTES = 8 << 20
_PROCESS_BYTES = 700 << 20
_KV_SPACE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Memory that the worker takes. Units: bytes; pools and arenas per device."""

    buffer_bytes: int
    arena_bytes: tuple[int, ...]
    prefill_pool_bytes: int
    decode_pool_bytes: int | None

    @property
    def shared_bytes(self) -> int:
        return self.buffer_bytes + sum(self.arena_bytes)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfigs:
    """Both engines' vLLM configurations, with the settings that they carry."""

    prefill: VllmConfig
    decode: VllmConfig
    settings: EngineSettings
    sizes: Sizes


def plain_config(args: AsyncEngineArgs, settings: WorkerSettings) -> VllmConfig:
    """The configuration of plain vLLM in the decode layout, for ``--reshard never``."""
    if current_platform.is_cpu():
        os.environ[BIND_VARIABLE] = "|".join(divide_cores(settings.decode.num_devices))
    return _create(_with_layout(args, settings.decode), UsageContext.OPENAI_API_SERVER)


def shape_of(config: VllmConfig) -> ModelShape:
    """The model's shape as vLLM sees it."""
    model = config.model_config
    return ModelShape(
        num_layers=model.get_total_num_hidden_layers(),
        num_heads=model.model_arch_config.total_num_attention_heads,
        num_kv_heads=model.get_total_num_kv_heads(),
        head_dim=model.get_head_size(),
    )


def probe(args: AsyncEngineArgs) -> VllmConfig:
    """A configuration on one device, to learn the model's shape before any layout is tried.

    Raises: InputError if the flags or the model's files are wrong; UnsupportedError for flags
    that re-sharding does not go with.
    """
    refuse_flags(args)
    return _create(_with_layout(args, Layout()), UsageContext.OPENAI_API_SERVER)


def engine_configs(
    args: AsyncEngineArgs,
    settings: WorkerSettings,
    *,
    folder: Path,
    shape: ModelShape,
    tensors: tuple[TensorInfo, ...],
) -> EngineConfigs:
    """Both engines' configurations, checked for what re-sharding cannot do.

    Raises: LayoutError, UnsupportedError, CapacityError.
    """
    check_pair(settings.prefill, settings.decode, shape)
    refuse_formats(args, settings.weights)
    decode_args = _with_layout(args, settings.decode)
    probe_config = _create(decode_args, UsageContext.OPENAI_API_SERVER)
    os.environ.pop(_KV_SPACE_VARIABLE, None)  # it sized the decode pool; prefill has its own size
    refuse_models(probe_config)
    refuse_kv_dtypes(probe_config)
    block_size = probe_config.cache_config.block_size
    page_bytes = 2 * block_size * shape.head_dim * _kv_item_bytes(probe_config)
    block_bytes = shape.num_layers * shape.num_kv_heads * page_bytes
    num_blocks = int(settings.kv_buffer_gib * GIB) // block_bytes
    if num_blocks < 1:
        raise CapacityError(
            f"--kv-buffer-gib={settings.kv_buffer_gib}: not one block of {block_size} tokens "
            f"fits, which takes {block_bytes} bytes; give at least {at_least_gib(block_bytes)}"
        )
    arenas = (
        tuple(
            int(n * _ARENA_SLACK) + _ARENA_SLACK_BYTES
            for n in arena_bytes(tensors, settings.prefill, settings.decode, shape)
        )
        if settings.weights is WeightsMode.SHARED
        else (0,) * settings.decode.num_devices
    )
    check_room(
        settings.shm_dir,
        num_blocks * block_bytes + sum(arenas),
        for_what="the KV buffer and the weights arenas",
        flag="--kv-buffer-gib",
    )
    model_len = probe_config.model_config.max_model_len
    prefill_len = min(model_len, num_blocks * block_size + 1)
    sizes = _sizes(
        settings,
        probe_config,
        buffer_bytes=num_blocks * block_bytes,
        arenas=arenas,
        prefill_tokens=_prefill_pool_tokens(settings, probe_config, prefill_len),
        block_bytes=block_bytes,
    )
    common = EngineSettings(
        role=Role.DECODE,
        folder=folder,
        server_pid=os.getpid(),
        prefill=settings.prefill,
        decode=settings.decode,
        shape=shape,
        weights=settings.weights,
        arena_bytes=arenas,
        block_size=block_size,
        page_bytes=page_bytes,
        num_buffer_blocks=num_blocks,
        cores=_cores(settings.decode.num_devices),
        verify_kv=settings.verify_kv,
    )
    decode_args = _seesaw_args(decode_args, common)
    decode_args.kv_cache_memory_bytes = sizes.decode_pool_bytes
    prefill_args = _seesaw_args(
        _with_layout(args, settings.prefill), dataclasses.replace(common, role=Role.PREFILL)
    )
    prefill_args.kv_cache_memory_bytes = sizes.prefill_pool_bytes
    prefill_args.max_model_len = prefill_len
    prefill_args.block_size = block_size
    prefill_args.enforce_eager = True  # layers must come back to Python for their KV to leave
    prefill_args.disable_log_stats = True
    prefill_args.enable_lora = False
    prefill_args.kv_events_config = None
    prefill_args.num_gpu_blocks_override = None
    return EngineConfigs(
        prefill=_create(prefill_args, UsageContext.ENGINE_CONTEXT),
        decode=_create(decode_args, UsageContext.OPENAI_API_SERVER),
        settings=common,
        sizes=sizes,
    )


def refuse_flags(args: AsyncEngineArgs) -> None:
    """Raises: UnsupportedError for flags that do not go with re-sharding, naming the way out."""
    refused = {
        "--kv-transfer-config": args.kv_transfer_config is not None,
        "--speculative-config": args.speculative_config is not None,
        "--enable-sleep-mode": bool(args.enable_sleep_mode),
        "--weight-transfer-config": args.weight_transfer_config is not None,
        "--enable-expert-parallel": bool(args.enable_expert_parallel),
        "--quantization=torchao": args.quantization == "torchao",
        "--quantization=bitsandbytes": args.quantization == "bitsandbytes",
        "--worker-cls": args.worker_cls != "auto",
        "--decode-context-parallel-size": args.decode_context_parallel_size > 1,
        "--prefill-context-parallel-size": args.prefill_context_parallel_size > 1,
    }
    apart = {
        "--data-parallel-size": args.data_parallel_size > 1,
        "--nnodes": args.nnodes > 1,
        "--distributed-executor-backend": args.distributed_executor_backend not in (None, "mp"),
    }
    for flag, is_set in (refused | apart).items():
        if is_set:
            hint = "run one worker per replica" if flag in apart else "use --reshard never"
            raise UnsupportedError(f"{flag} does not go with re-sharding; drop it, or {hint}")


def refuse_formats(args: AsyncEngineArgs, weights: WeightsMode) -> None:
    """Raises: UnsupportedError for ways to load that have no host copy to refill from."""
    if weights is WeightsMode.SHARED and args.load_format not in ("auto", "safetensors", "hf"):
        raise UnsupportedError(
            f"--load-format={args.load_format} has no host copy that both engines could share; "
            "drop it, or use --weights resident"
        )


def at_least_gib(num_bytes: int) -> str:
    """GiB to ask for so that ``num_bytes`` fit: rounded up, never to zero."""
    digits = 3
    while num_bytes * 10**digits < GIB:
        digits += 1
    return f"{math.ceil(num_bytes * 10**digits / GIB) / 10**digits:.{digits}f}"


def refuse_models(config: VllmConfig) -> None:
    """Raises: UnsupportedError for models whose KV the buffer cannot carry."""
    model = config.model_config
    reasons = {
        "it is no generating model": model.runner_type != "generate",
        "it is an encoder-decoder model": model.is_encoder_decoder,
        "it keeps recurrent state beside its KV": model.is_hybrid,
        "it has no attention": model.is_attention_free,
        "its latent attention has no KV heads to divide": model.use_mla,
    }
    for reason, applies in reasons.items():
        if applies:
            raise UnsupportedError(
                f"{model.model}: re-sharding cannot carry this model's KV, since {reason}; "
                "use --reshard never"
            )


def refuse_kv_dtypes(config: VllmConfig) -> None:
    """Raises: UnsupportedError for KV dtypes that the CPU's attention does not have."""
    if not current_platform.is_cpu():
        return  # there the dtype decides which attention vLLM takes
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    wanted, offered = config.cache_config.cache_dtype, CPUAttentionBackend.supported_kv_cache_dtypes
    if wanted not in offered:
        raise UnsupportedError(
            f"--kv-cache-dtype={wanted} is not available on the CPU; choose from "
            f"{', '.join(offered)}"
        )


def available_bytes() -> int:
    """Main memory that this container may still take."""
    available = int(psutil.virtual_memory().available)
    for limit, usage in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            left = int(Path(limit).read_text()) - int(Path(usage).read_text())
        except (OSError, ValueError):
            continue
        available = min(available, left)
    return available


def _cores(num_devices: int) -> tuple[str, ...]:
    return divide_cores(num_devices) if current_platform.is_cpu() else ("",) * num_devices


def _create(args: AsyncEngineArgs, usage: UsageContext) -> VllmConfig:
    with refusals():
        return args.create_engine_config(usage_context=usage)


def _with_layout(args: AsyncEngineArgs, layout: Layout) -> AsyncEngineArgs:
    return dataclasses.replace(
        args,
        tensor_parallel_size=layout.tensor,
        pipeline_parallel_size=layout.pipeline,
        distributed_executor_backend="mp",
    )


def _seesaw_args(args: AsyncEngineArgs, settings: EngineSettings) -> AsyncEngineArgs:
    is_prefill = settings.role is Role.PREFILL
    shared = settings.weights is WeightsMode.SHARED
    return dataclasses.replace(
        args,
        worker_cls="seesaw_worker.engine.worker.SeesawWorker",
        load_format=LOAD_FORMAT if shared else args.load_format,
        additional_config=dict(args.additional_config or {}) | settings.to_additional_config(),
        kv_transfer_config=KVTransferConfig(
            kv_connector="SeesawConnector",
            kv_connector_module_path="seesaw_worker.kv.connector",
            kv_role="kv_producer" if is_prefill else "kv_consumer",
        ),
        disable_hybrid_kv_cache_manager=True,
    )


def _prefill_pool_tokens(settings: WorkerSettings, config: VllmConfig, longest: int) -> int:
    """Tokens of the prefill engine's own pool: its longest prompt, and the chunks in flight."""
    chunk = int(config.scheduler_config.max_num_batched_tokens)
    return longest + chunk * (settings.prefill.pipeline + 1)


def _sizes(
    settings: WorkerSettings,
    config: VllmConfig,
    *,
    buffer_bytes: int,
    arenas: tuple[int, ...],
    prefill_tokens: int,
    block_bytes: int,
) -> Sizes:
    """Divide the memory, and refuse what does not fit. Raises: CapacityError."""
    num_devices = settings.decode.num_devices
    block_size = config.cache_config.block_size
    blocks = -(-prefill_tokens // block_size) + 2
    prefill_pool = _device_share(settings.prefill, config, blocks, block_bytes)
    decode_pool = config.cache_config.kv_cache_memory_bytes
    if not current_platform.is_cpu():
        return Sizes(
            buffer_bytes=buffer_bytes,
            arena_bytes=arenas,
            prefill_pool_bytes=prefill_pool,
            decode_pool_bytes=decode_pool,
        )
    taken = buffer_bytes + sum(arenas) + num_devices * prefill_pool
    taken += (2 * num_devices + 3) * _PROCESS_BYTES
    left = available_bytes() - taken
    if decode_pool is None:
        most_tokens = config.scheduler_config.max_num_seqs * config.model_config.max_model_len
        most = _device_share(
            settings.decode, config, -(-most_tokens // block_size) + 2, block_bytes
        )
        decode_pool = min(most, int(left * 0.6) // num_devices)
    least = _least_pool_bytes(settings.decode, config, block_bytes)
    if config.cache_config.kv_cache_memory_bytes is not None and decode_pool < least:
        raise CapacityError(
            f"--kv-cache-memory-bytes={decode_pool} cannot hold one request of --max-model-len="
            f"{config.model_config.max_model_len} tokens, which takes {least} bytes on a device; "
            "raise the one or lower the other"
        )
    if left < num_devices * decode_pool or decode_pool < least:
        pools = num_devices * max(decode_pool, least)
        raise CapacityError(
            f"{available_bytes() / GIB:.1f} GiB of memory are available, but the worker takes at "
            f"least {(taken + pools) / GIB:.1f} GiB: KV buffer {buffer_bytes / GIB:.2f}, weights "
            f"arenas {sum(arenas) / GIB:.2f}, prefill pools "
            f"{num_devices * prefill_pool / GIB:.2f}, decode pools {pools / GIB:.2f}, processes "
            "the rest; lower --kv-buffer-gib, --max-model-len or --kv-cache-memory-bytes"
        )
    return Sizes(
        buffer_bytes=buffer_bytes,
        arena_bytes=arenas,
        prefill_pool_bytes=prefill_pool,
        decode_pool_bytes=decode_pool,
    )


def _least_pool_bytes(layout: Layout, config: VllmConfig, block_bytes: int) -> int:
    """Bytes of pool that one request of the greatest length takes on a device."""
    blocks = -(-config.model_config.max_model_len // config.cache_config.block_size)
    return _device_share(layout, config, blocks, block_bytes)


def _device_share(layout: Layout, config: VllmConfig, blocks: int, block_bytes: int) -> int:
    """Bytes of ``blocks`` blocks on the device that holds most of them."""
    shape = shape_of(config)
    layers = -(-shape.num_layers // layout.pipeline)
    heads = max(1, shape.num_kv_heads // layout.tensor)
    page = block_bytes // (shape.num_layers * shape.num_kv_heads)
    return blocks * layers * heads * page


def _kv_item_bytes(config: VllmConfig) -> int:
    kv_dtype = config.cache_config.cache_dtype
    if kv_dtype == "auto":
        return int(config.model_config.dtype.itemsize)
    return int(STR_DTYPE_TO_TORCH_DTYPE[kv_dtype].itemsize)
