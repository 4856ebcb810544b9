"""How two engines divide the memory of a device: arithmetic only, no vLLM and no device.

Ranks of both engines run on the device at once. Each rank gets an explicit size for its KV pool,
and a share of the device for vLLM's start-up check, which requires that share to be free when the
rank starts. The shares let the checks pass in any order that loading allows: prefill ranks start
before the arena exists, decode ranks at any time.

Units: bytes of one device, unless said otherwise.
"""

from dataclasses import dataclass

from seesaw_core.errors import CapacityError
from seesaw_core.units import GIB

_SHARE_UNIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReserve:
    """Memory of one rank beside weights and KV.

    ``context_bytes`` are taken as soon as the rank has started, ``work_bytes`` (activations and
    CUDA graphs) later.
    """

    context_bytes: int
    work_bytes: int

    @property
    def total(self) -> int:
        return self.context_bytes + self.work_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNeeds:
    """One device, and what must fit on it.

    ``utilization`` is the share of the device that the worker may take, ``num_sharers`` how many
    ranks of one engine share the device (1 except in tests). ``decode_pool_bytes`` is the size that
    the user requested with the flag and value ``requested_by``; None gives the pool what is left.
    It holds at least one request of ``max_model_len`` tokens, in ``least_decode_pool_bytes``.
    """

    device_bytes: int
    utilization: float
    arena_bytes: int
    prefill: EngineReserve
    decode: EngineReserve
    prefill_pool_bytes: int
    least_decode_pool_bytes: int
    max_model_len: int
    decode_pool_bytes: int | None = None
    requested_by: str = "--kv-cache-memory-bytes"
    num_sharers: int = 1

    @property
    def budget_bytes(self) -> int:
        """What one rank of the prefill engine and one of the decode engine may take together."""
        return int(self.device_bytes * self.utilization) // self.num_sharers

    @property
    def fixed_bytes(self) -> int:
        """What all but the decode pool takes."""
        return self.arena_bytes + self.prefill.total + self.decode.total + self.prefill_pool_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceShares:
    """Both pools, and for each engine the share of the device that must be free at its start."""

    prefill_pool_bytes: int
    decode_pool_bytes: int
    prefill_share: float
    decode_share: float


def divide_device(needs: DeviceNeeds) -> DeviceShares:
    """Give the prefill pool what it needs and the decode pool what was requested, or the rest.

    Raises: CapacityError with the figures and the flags to change.
    """
    requested = needs.decode_pool_bytes
    least = needs.least_decode_pool_bytes
    if requested is not None and requested < least:
        raise pool_too_small(needs.requested_by, needs.max_model_len, least)
    left = needs.budget_bytes - needs.fixed_bytes
    pool = left if requested is None else requested
    if left < max(pool, least):
        raise CapacityError(_explain(needs, pool_bytes=max(pool, least)))
    first = needs.arena_bytes + needs.prefill_pool_bytes + needs.prefill.work_bytes
    return DeviceShares(
        prefill_pool_bytes=needs.prefill_pool_bytes,
        decode_pool_bytes=pool,
        prefill_share=_share(first, needs.device_bytes),
        decode_share=_share(pool + needs.decode.work_bytes, needs.device_bytes),
    )


def pool_too_small(requested_by: str, max_model_len: int, least_bytes: int) -> CapacityError:
    """Return the error for a decode pool that the user set too small for one request."""
    return CapacityError(
        f"{requested_by} cannot hold one request of --max-model-len={max_model_len} tokens, which "
        f"takes {least_bytes} bytes on a device; raise the one or lower the other"
    )


def _share(num_bytes: int, device_bytes: int) -> float:
    """Return a share of the device, rounded down, but not to zero, which vLLM refuses."""
    return max(1, num_bytes * _SHARE_UNIT // device_bytes) / _SHARE_UNIT


def _explain(needs: DeviceNeeds, *, pool_bytes: int) -> str:
    sharers = f", shared by {needs.num_sharers} ranks," if needs.num_sharers > 1 else ""
    parts = {
        "weights arena": needs.arena_bytes,
        "prefill KV pool": needs.prefill_pool_bytes,
        "decode KV pool": pool_bytes,
        "two CUDA contexts": needs.prefill.context_bytes + needs.decode.context_bytes,
        "activations and graphs": needs.prefill.work_bytes + needs.decode.work_bytes,
    }
    listed = ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts.items())
    return (
        f"--gpu-memory-utilization={needs.utilization} of a device of "
        f"{needs.device_bytes / GIB:.2f} GiB{sharers} gives the worker "
        f"{needs.budget_bytes / GIB:.2f} GiB, but it takes at least "
        f"{(needs.fixed_bytes + pool_bytes) / GIB:.2f} GiB ({listed}); lower --max-model-len, "
        f"--max-num-batched-tokens, --max-num-seqs or {needs.requested_by}, raise "
        "--gpu-memory-utilization, or lay the model over more or larger devices"
    )
