"""Models and settings that re-sharding does not support, each refused with its reason."""

from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from seesaw_core.errors import UnsupportedError


def refuse_quantization(args: AsyncEngineArgs) -> None:
    """Raises: UnsupportedError for weights that cannot be laid out for another layout."""
    if args.quantization in ("torchao", "bitsandbytes"):
        raise UnsupportedError(
            f"--quantization={args.quantization} does not work with re-sharding: its weights "
            "cannot be laid out for another layout; drop it, or use --reshard never"
        )


def refuse_models(config: VllmConfig) -> None:
    """Raises: UnsupportedError for models whose KV the buffer cannot carry."""
    model = config.model_config
    reasons = {
        "it is not a generative model": model.runner_type != "generate",
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
    """Raises: UnsupportedError for KV dtypes and block sizes that CPU attention lacks."""
    if not current_platform.is_cpu():
        return  # on a GPU vLLM chooses an attention backend that has the dtype
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
