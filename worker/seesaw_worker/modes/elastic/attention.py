"""vLLM's attention backend of an instance: it does what the iteration under way says."""

from typing import Any

import torch
from vllm.platforms import current_platform
from vllm.v1.attention.backend import AttentionType
from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

from seesaw_core.errors import UnsupportedError
from seesaw_worker.modes.elastic.iteration import Iteration
from seesaw_worker.modes.elastic.memory import KvMemory, memory_of

if current_platform.is_cpu():
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend as Backend
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackendImpl as Attention

    REPLACED = AttentionBackendEnum.CPU_ATTN
else:  # not run on a GPU yet
    from vllm.v1.attention.backends.flash_attn import FlashAttentionBackend as Backend
    from vllm.v1.attention.backends.flash_attn import FlashAttentionImpl as Attention

    REPLACED = AttentionBackendEnum.FLASH_ATTN


def register() -> None:
    """Let this process's attention be ours, in the place of one of vLLM's."""
    register_backend(REPLACED, f"{__name__}.ElasticBackend")


class ElasticBackend(Backend):
    """Attention over slots of one token each, on any instances."""

    forward_includes_kv_cache_update = True

    @staticmethod
    def get_impl_cls() -> type["ElasticAttention"]:
        return ElasticAttention


class ElasticAttention(Attention):
    """Raises: UnsupportedError for layers whose attention is more than a softmax over all keys."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._memory: KvMemory | None = None
        reasons = {
            "it sees a sliding window of keys": self.sliding_window not in (-1, (-1, -1)),
            "it caps its scores": bool(self.logits_soft_cap),
            "it has ALiBi slopes": self.alibi_slopes is not None,
            "it has attention sinks": self.sinks is not None,
            "it shares KV with another layer": self.kv_sharing_target_layer_name is not None,
            "it is no decoder's": self.attn_type != AttentionType.DECODER,
        }
        for reason, applies in reasons.items():
            if applies:
                raise UnsupportedError(
                    f"elastic instances cannot serve this model's attention, since {reason}; "
                    "drop --elastic-instances"
                )

    def memory(self, layer: Any) -> KvMemory:
        """Return the layer's KV memory. Requires: vLLM has allocated it."""
        if self._memory is None:
            self._memory = memory_of(layer.kv_cache, getattr(layer, "isa", ""))
        return self._memory

    def forward(  # noqa: PLR0913, PLR0917 - vLLM calls it so
        self,
        layer: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: Iteration | None,
        output: torch.Tensor,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if attn_metadata is None:  # vLLM warms up
            return output.zero_()
        attn_metadata.attend(query, key, value, self.memory(layer), self.scale, output)
        return output

    def take_part(self, iteration: Iteration, layer: Any) -> None:
        """Do this layer's share of an iteration in which this instance computes no token."""
        none = layer.kv_cache.new_empty(0, self.num_heads, self.head_size)
        no_key = layer.kv_cache.new_empty(0, self.num_kv_heads, self.head_size)
        output = torch.empty_like(none)
        iteration.attend(none, no_key, no_key, self.memory(layer), self.scale, output)
