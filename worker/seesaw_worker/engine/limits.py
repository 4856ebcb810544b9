"""What re-sharding does not go with, each refused with its reason and the way out."""

from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from seesaw_core.errors import UnsupportedError
from seesaw_worker.engine.settings import WeightsMode


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


def refuse_cache_settings(config: VllmConfig) -> None:
    """Raises: UnsupportedError for KV dtypes and block sizes that the CPU's attention lacks."""
    if not current_platform.is_cpu():
        return  # there the dtype decides which attention vLLM takes
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    wanted, offered = config.cache_config.cache_dtype, CPUAttentionBackend.supported_kv_cache_dtypes
    if wanted not in offered:
        raise UnsupportedError(
            f"--kv-cache-dtype={wanted} is not available on the CPU; choose from "
            f"{', '.join(offered)}"
        )
    size = config.cache_config.block_size
    (multiple,) = CPUAttentionBackend.get_supported_kernel_block_sizes()
    if size % multiple.base:
        raise UnsupportedError(
            f"--block-size={size} is not available on the CPU; give a multiple of {multiple.base}"
        )
