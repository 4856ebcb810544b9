"""Whether instances and their pool can hold a model and its longest request: arithmetic only."""

from dataclasses import dataclass

from seesaw_core.errors import CapacityError
from seesaw_core.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceNeeds:
    """What instances take.

    Units: bytes; ``weight_bytes`` of the whole model, ``kv_bytes`` and ``token_bytes`` of one of
    the ``tensor`` ranks of an instance. ``max_model_len`` and ``block_size`` in tokens.
    """

    num_instances: int
    tensor: int
    weight_bytes: int
    kv_bytes: int
    token_bytes: int
    block_size: int
    max_model_len: int

    @property
    def instance_tokens(self) -> int:
        """Tokens whose KV one instance can keep."""
        block_bytes = self.token_bytes * self.block_size
        return self.kv_bytes // block_bytes * self.block_size

    @property
    def pool_tokens(self) -> int:
        return self.instance_tokens * self.num_instances

    @property
    def total_bytes(self) -> int:
        """Of all instances on one machine, each of which has weights of its own."""
        return self.num_instances * (self.weight_bytes + self.tensor * self.kv_bytes)


def check_needs(needs: InstanceNeeds, available_bytes: int) -> None:
    """Raises: CapacityError with the figures and the flags to change."""
    _check_weights(needs, available_bytes)
    if not needs.instance_tokens:
        raise CapacityError(
            f"--kv-cache-memory-bytes={needs.kv_bytes} cannot hold one block of "
            f"{needs.block_size} tokens, which takes {needs.token_bytes * needs.block_size} bytes "
            "on each rank; raise it"
        )
    # vLLM keeps one block back.
    longest = needs.pool_tokens - needs.block_size
    if needs.max_model_len > longest:
        least = -(-(needs.max_model_len + needs.block_size) // needs.num_instances)
        blocks = -(-least // needs.block_size)
        raise CapacityError(
            f"--max-model-len={needs.max_model_len} is beyond the pool: {needs.num_instances} "
            f"instances hold {needs.instance_tokens} tokens each, enough for a request of "
            f"{longest}; lower it, or give --kv-cache-memory-bytes="
            f"{blocks * needs.block_size * needs.token_bytes} or more"
        )
    if needs.total_bytes > available_bytes:
        raise CapacityError(
            f"--elastic-instances={needs.num_instances} takes {needs.total_bytes / GIB:.2f} GiB: "
            f"each instance holds the whole model of {needs.weight_bytes / GIB:.2f} GiB and "
            f"{needs.tensor * needs.kv_bytes / GIB:.2f} GiB of KV, but "
            f"{available_bytes / GIB:.2f} GiB are available; give fewer instances, or lower "
            "--kv-cache-memory-bytes"
        )


def _check_weights(needs: InstanceNeeds, available_bytes: int) -> None:
    """What is left after the weights is for KV, so there must be something left."""
    if needs.num_instances * needs.weight_bytes < available_bytes:
        return
    most = (available_bytes - 1) // needs.weight_bytes
    way_out = f"give --elastic-instances={most} or fewer"
    if most < 1:
        way_out = "not even one fits, so serve a smaller model or add memory"
    raise CapacityError(
        f"--elastic-instances={needs.num_instances} takes "
        f"{needs.num_instances * needs.weight_bytes / GIB:.2f} GiB for weights, since each "
        f"instance holds the whole model of {needs.weight_bytes / GIB:.2f} GiB, but "
        f"{available_bytes / GIB:.2f} GiB are available; {way_out}"
    )
