"""What vLLM reports about the machine: CPU or GPUs, their number, and the default batch sizes."""


def is_cpu() -> bool:
    """Return whether the installed vLLM runs on the CPU."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def is_cuda() -> bool:
    """Return whether the installed vLLM runs on NVIDIA GPUs."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cuda())


def num_devices() -> int:
    """Return the number of GPUs; 1 on the CPU."""
    from vllm.platforms import current_platform

    return 1 if is_cpu() else max(1, int(current_platform.device_count()))


def device_name() -> str:
    """Return the name that the GPU reports, or ``CPU``."""
    from vllm.platforms import current_platform

    return "CPU" if is_cpu() else str(current_platform.get_device_name())


def batch_defaults(num_devices: int) -> tuple[int, int]:
    """Return vLLM's default numbers of tokens and of requests per step."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    tokens, requests = AsyncEngineArgs.get_batch_defaults(num_devices)
    context = UsageContext.OPENAI_API_SERVER
    return tokens.get(context) or 2048, requests.get(context) or 256
