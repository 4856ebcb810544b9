"""Memory of a device: what it holds, and how many tokens of KV the rest has room for."""

from dataclasses import dataclass
from math import ceil, inf

from seesaw_core.planner.costs import StepCosts, prefill_pool_tokens
from seesaw_core.units import GIB

USUAL_STEP_TOKENS = 2048  # vLLM 0.32's own default
USUAL_MAX_REQUESTS = 256  # vLLM 0.32's own default on devices below 70 GiB
USUAL_BUFFER_BYTES = 32.0 * GIB  # half of a host with 512 GiB for eight devices


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """The limits that vLLM's flags set. Units: tokens, counts, bytes.

    ``step_tokens`` are values of ``--max-num-batched-tokens`` to choose from, around vLLM's own
    default; ``max_requests`` is the value of ``--max-num-seqs``. ``buffer_bytes`` of host memory
    per device are the KV buffer. No phase lasts longer than ``flush_timeout_s`` while requests
    wait for the other phase. With ``shares_pool`` the prefill engine has no pool of its own, as in
    the paper's system.
    """

    step_tokens: tuple[int, ...] = (512, 1024, USUAL_STEP_TOKENS, 4096, 8192)
    max_requests: int = USUAL_MAX_REQUESTS
    buffer_bytes: float = USUAL_BUFFER_BYTES
    flush_timeout_s: float = inf
    shares_pool: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """Why a layout or a pair cannot serve a workload."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one device holds, in bytes, and the tokens of KV that one replica has room for.

    The ``weight_bytes`` of a pair are those of its arena, which holds the larger of both shards.
    ``kv_tokens`` is negative if weights and activations alone do not fit. Only pairs have
    ``prefill_tokens``, the prefill engine's own pool, and ``buffer_tokens``, in host memory.
    """

    weight_bytes: float
    activation_bytes: float
    kv_tokens: int
    prefill_tokens: int = 0
    buffer_tokens: int = 0


def static_memory(
    costs: StepCosts, limits: EngineLimits, step_tokens: int, context_tokens: float
) -> Memory:
    """Divide a device's memory under a static layout.

    ``context_tokens`` are those of a mean request; of more than its window a layer keeps none.
    """
    return Memory(
        weight_bytes=costs.weight_bytes,
        activation_bytes=costs.activation_bytes(step_tokens, limits.max_requests),
        kv_tokens=costs.kv_capacity_tokens(
            step_tokens=step_tokens, max_requests=limits.max_requests, context=context_tokens
        ),
    )


def pair_memory(
    prefill: StepCosts,
    decode: StepCosts,
    limits: EngineLimits,
    step_tokens: int,
    longest_tokens: int,
) -> Memory:
    """Divide a device's memory under a pair that re-shards.

    The prefill engine's pool holds the prompts that it is computing, none of which is longer than
    the buffer. The decode engine's pool gets the rest. All layers keep all tokens, since the worker
    turns off vLLM's separate pools for layers with a window.
    """
    arena = max(prefill.weight_bytes, decode.weight_bytes)
    room = decode.kv_capacity_tokens(
        step_tokens=step_tokens, max_requests=limits.max_requests, weight_bytes=arena
    )
    devices = decode.layout.tensor * decode.layout.pipeline
    buffer = int(limits.buffer_bytes * devices / decode.model.kv_bytes_per_token)
    in_prefill = prefill_pool_tokens(prefill.layout, min(longest_tokens, buffer + 1), step_tokens)
    if not limits.shares_pool:
        taken = in_prefill * prefill.num_layers * prefill.kv_bytes_per_token_layer
        room -= ceil(taken / (decode.num_layers * decode.kv_bytes_per_token_layer))
    return Memory(
        weight_bytes=arena,
        activation_bytes=decode.activation_bytes(step_tokens, limits.max_requests),
        kv_tokens=room,
        prefill_tokens=in_prefill,
        buffer_tokens=buffer,
    )


def kv_shortage(memory: Memory, costs: StepCosts) -> Unfit | None:
    """Return why no memory is left for KV, or None if some is left."""
    if memory.kv_tokens > 0:
        return None
    return Unfit(
        reason=f"{memory.weight_bytes / GIB:.1f} GiB of weights and "
        f"{memory.activation_bytes / GIB:.1f} GiB for a step's results leave no memory for KV on "
        f"{costs.device.name} ({costs.device.memory_bytes / GIB:.1f} GiB)"
    )
