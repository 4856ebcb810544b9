"""What elastic instances do not go with, each refused by name with the way out."""

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from vllm.config import VllmConfig
from vllm.platforms import current_platform

from seesaw_core.elastic.limits import InstanceNeeds, check_needs
from seesaw_core.errors import LayoutError, UnsupportedError
from seesaw_core.resharding.policy import PhasePolicy
from seesaw_worker.processes.forking import BIND_VARIABLE
from seesaw_worker.settings.worker import WorkerSettings
from seesaw_worker.upstream.flag_hints import as_written
from seesaw_worker.upstream.vllm_flags import BY_FLAG, Scope

_WAY_OUT = "drop --elastic-instances"
_OWN_PARTS = "instances have a scheduler, workers and KV memory of their own"
_OF_MODE: Mapping[str, str] = {
    "enable_lora": "its prompts are not prefilled over groups of instances",
    "lora_modules": "its prompts are not prefilled over groups of instances",
    "enable_prompt_embeds": "prompts are divided over instances by their token ids",
    "pipeline_parallel_size": "an instance is laid tensor-parallel alone",
    "scheduling_policy": "requests are planned first come, first served",
    "max_num_scheduled_tokens": "a prompt is prefilled in one iteration",
    "long_prefill_token_threshold": "a prompt is prefilled in one iteration",
    "async_scheduling": "iterations of several groups are under way at once already",
    "kv_cache_dtype": "instances keep KV in the model's own dtype",
    "attention_backend": "instances bring an attention of their own",
}
_ALLOWED: Mapping[str, tuple[object, ...]] = {
    "async_scheduling": (False,),
    "pipeline_parallel_size": (1,),
}
_POLICY = PhasePolicy()
_OF_RESHARDING: Mapping[str, object] = {
    "decode_tensor_parallel_size": None,
    "decode_pipeline_parallel_size": None,
    "prefill_tensor_parallel_size": 1,
    "prefill_pipeline_parallel_size": None,
    "reshard": _POLICY.reshard.value,
    "flush_timeout_s": _POLICY.flush_timeout_s,
    "low_watermark": _POLICY.low_watermark,
    "dwell_transitions": _POLICY.dwell_transitions,
    "kv_buffer_gib": 4.0,
    "verify_kv": False,
    "always_replay_weights": False,
    "parallelism": "manual",
}


def refuse_flags(args: Namespace, defaults: Mapping[str, object]) -> None:
    """Raises: UnsupportedError for flags that do not go with elastic instances."""
    for name, default in _OF_RESHARDING.items():
        value = getattr(args, name, default)
        if value != default:
            raise UnsupportedError(
                f"{as_written(name, value)} does not go with --elastic-instances, which neither "
                f"re-shards nor plans layouts; drop it, or {_WAY_OUT}"
            )
    for name, default in defaults.items():
        value, kind = getattr(args, name), BY_FLAG.get(name)
        reason = _OF_MODE.get(name, "")
        if not reason and (kind is None or kind.refused is Scope.RESHARDING):
            reason = _OWN_PARTS
        allowed = (default, *(kind.allowed if kind else ()), *_ALLOWED.get(name, ()))
        if reason and value not in allowed:
            raise UnsupportedError(
                f"{as_written(name, value)} does not go with --elastic-instances: {reason}; drop "
                f"it, or {_WAY_OUT}"
            )


def refuse_models(config: VllmConfig) -> None:
    """Raises: UnsupportedError for models whose attention cannot be divided over instances."""
    model, text = config.model_config, config.model_config.hf_text_config
    reasons = {
        "it is no generating model": model.runner_type != "generate",
        "it is an encoder-decoder model": model.is_encoder_decoder,
        "it keeps recurrent state beside its KV": model.is_hybrid,
        "it has no attention": model.is_attention_free,
        "it has latent attention": model.use_mla,
        "it takes media": model.is_multimodal_model,
        "it sees a sliding window of keys": model.get_sliding_window() is not None,
        "it attends to chunks of keys": getattr(text, "attention_chunk_size", None) is not None,
        "it caps its scores": getattr(text, "attn_logit_softcapping", None) is not None,
    }
    for reason, applies in reasons.items():
        if applies:
            raise UnsupportedError(
                f"{model.model}: elastic instances cannot serve this model, since {reason}; "
                f"{_WAY_OUT}"
            )


def refuse_devices(settings: WorkerSettings) -> None:
    """Raises: LayoutError unless the instances use the devices, each of them once."""
    wanted = settings.elastic_instances * settings.decode.tensor
    asked = f"--elastic-instances={settings.elastic_instances} with --tensor-parallel-size="
    asked += f"{settings.decode.tensor} takes {wanted} devices"
    if current_platform.is_cpu():
        bound = os.environ.get(BIND_VARIABLE, "nobind")
        if bound in ("nobind", "auto"):
            return
        there, what = len(bound.split("|")), f"{BIND_VARIABLE}={bound} has"
    else:
        there, what = current_platform.device_count(), "there are"
    if there != wanted:
        raise LayoutError(
            f"{asked}, but {what} {there}; give sizes whose product is {there}, or choose devices "
            "(CUDA_VISIBLE_DEVICES)"
        )


def check_memory(config: VllmConfig, settings: WorkerSettings) -> None:
    """Give each rank its KV memory, on the CPU, where all instances share one machine.

    Elsewhere vLLM divides each device's memory once it has measured.
    Raises: CapacityError if an instance cannot hold the model, or the pool the longest request.
    """
    if not current_platform.is_cpu():
        return
    model = config.model_config
    number, tensor = settings.elastic_instances, settings.decode.tensor
    available = psutil.virtual_memory().available
    weights = sum(file.stat().st_size for file in _checkpoint(model.model))
    if config.cache_config.kv_cache_memory_bytes is None:
        share = int(available * config.cache_config.gpu_memory_utilization) - number * weights
        config.cache_config.kv_cache_memory_bytes = max(1, share // (number * tensor))
    check_needs(
        InstanceNeeds(
            num_instances=number,
            tensor=tensor,
            weight_bytes=weights,
            kv_bytes=config.cache_config.kv_cache_memory_bytes,
            token_bytes=token_bytes(config),
            block_size=int(config.cache_config.block_size),
            max_model_len=int(model.max_model_len),
        ),
        available_bytes=available,
    )


def token_bytes(config: VllmConfig) -> int:
    """Return the bytes of one token's KV on one rank of an instance."""
    model, parallel = config.model_config, config.parallel_config
    heads = model.get_num_kv_heads(parallel) * model.get_num_layers(parallel)
    return int(2 * heads * model.get_head_size() * model.dtype.itemsize)


def _checkpoint(model: str) -> Iterator[Path]:
    """Yield the files of a model's weights; none of a model that is still to be downloaded."""
    return Path(model).expanduser().glob("*.safetensors")
