"""Two engines on one device: pools and shares that fit, or an error that names what to lower."""

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesaw_core.errors import CapacityError
from seesaw_core.units import GIB, MIB
from seesaw_worker.modes.resharding.device_memory import (
    DeviceNeeds,
    DeviceShares,
    EngineReserve,
    divide_device,
)

RESERVE = EngineReserve(context_bytes=640 * MIB, work_bytes=1 * GIB)
# An 8B model in bf16 on one device of 80 GiB.
NEEDS = DeviceNeeds(
    device_bytes=80 * GIB,
    utilization=0.92,
    arena_bytes=16 * GIB,
    prefill=RESERVE,
    decode=RESERVE,
    prefill_pool_bytes=2 * GIB,
    max_model_len=4096,
    least_decode_pool_bytes=1 * GIB,
)


def free_is_enough(free: int, share: float, device: int) -> bool:
    """vLLM's check as a rank starts (``request_memory``)."""
    return free >= math.ceil(device * share)


@pytest.mark.parametrize(
    ("needs", "pool_gib"),
    [
        pytest.param(NEEDS, 52.35, id="the rest is the decode pool's"),
        pytest.param(replace(NEEDS, utilization=0.5), 18.75, id="less of the device"),
        pytest.param(replace(NEEDS, decode_pool_bytes=4 * GIB), 4.0, id="as asked for"),
        pytest.param(replace(NEEDS, arena_bytes=0, num_sharers=2), 31.55, id="two ranks share it"),
    ],
)
def test_the_prefill_pool_comes_first_and_the_decode_pool_gets_the_rest(
    needs: DeviceNeeds, pool_gib: float
) -> None:
    shares = divide_device(needs)
    assert shares.prefill_pool_bytes == 2 * GIB
    assert shares.decode_pool_bytes / GIB == pytest.approx(pool_gib, abs=0.01)


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        pytest.param(
            replace(NEEDS, device_bytes=16 * GIB),
            (
                *("--gpu-memory-utilization=0.92", "16.00 GiB", "14.72 GiB", "22.25 GiB"),
                *("weights arena 16.00", "prefill KV pool 2.00", "decode KV pool 1.00"),
                *("two CUDA contexts 1.25", "activations and graphs 2.00"),
                *("--max-model-len", "--max-num-batched-tokens", "larger devices"),
            ),
            id="a model that does not fit",
        ),
        pytest.param(
            replace(NEEDS, decode_pool_bytes=60 * GIB),
            ("decode KV pool 60.00", "lower", "--kv-cache-memory-bytes"),
            id="a decode pool that does not fit",
        ),
        pytest.param(
            replace(NEEDS, decode_pool_bytes=100, requested_by="--kv-cache-memory-bytes=100"),
            ("--kv-cache-memory-bytes=100", "--max-model-len", str(GIB)),
            id="a decode pool too small for one request",
        ),
        pytest.param(
            replace(NEEDS, device_bytes=24 * GIB, num_sharers=2),
            ("shared by 2 ranks", "11.04 GiB"),
            id="two ranks on one device",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_figures_and_flags(
    needs: DeviceNeeds, words: tuple[str, ...]
) -> None:
    with pytest.raises(CapacityError) as refused:
        divide_device(needs)
    for word in words:
        assert word in str(refused.value)


sizes = st.integers(0, 40 * GIB)
reserves = st.builds(
    EngineReserve, context_bytes=st.integers(0, 2 * GIB), work_bytes=st.integers(0, 6 * GIB)
)
all_needs = st.builds(
    DeviceNeeds,
    device_bytes=st.integers(1 * GIB, 192 * GIB),
    utilization=st.floats(0.01, 1.0),
    arena_bytes=sizes,
    prefill=reserves,
    decode=reserves,
    prefill_pool_bytes=sizes,
    least_decode_pool_bytes=sizes,
    decode_pool_bytes=st.none() | sizes,
    num_sharers=st.integers(1, 2),
)


def frees(needs: DeviceNeeds, shares: DeviceShares) -> list[tuple[int, float]]:
    """The least that is free as either engine's ranks start, whatever has come before.

    One engine's rank has just its context by then. Decode ranks have no more than that until
    every prefill rank has loaded; prefill ranks may have all of theirs, and the arena.
    """
    free = needs.device_bytes
    contexts = needs.num_sharers * (needs.prefill.context_bytes + needs.decode.context_bytes)
    others = needs.num_sharers - 1
    first = contexts + others * (
        needs.arena_bytes + shares.prefill_pool_bytes + needs.prefill.work_bytes
    )
    everything = needs.fixed_bytes + shares.decode_pool_bytes
    own = shares.decode_pool_bytes + needs.decode.work_bytes
    second = needs.num_sharers * everything - own
    return [(free - first, shares.prefill_share), (free - second, shares.decode_share)]


@given(needs=all_needs)
def test_whatever_the_sizes_the_device_is_never_exceeded_and_both_pools_have_their_least(
    needs: DeviceNeeds,
) -> None:
    try:
        shares = divide_device(needs)
    except CapacityError as refused:
        named = {"--kv-cache-memory-bytes", "--max-model-len"} & set(
            re.split("[ ,=]", str(refused))
        )
        assert len(named) == 2
        return
    taken = needs.fixed_bytes + shares.decode_pool_bytes
    assert needs.num_sharers * taken <= needs.device_bytes * needs.utilization
    assert shares.prefill_pool_bytes == needs.prefill_pool_bytes
    assert shares.decode_pool_bytes >= needs.least_decode_pool_bytes
    assert needs.decode_pool_bytes in (None, shares.decode_pool_bytes)
    for share in (shares.prefill_share, shares.decode_share):
        assert 0 < share <= 1
    least = needs.device_bytes // 1_000_000 + 1  # a share of nothing is one that vLLM accepts
    for free, share in frees(needs, shares):
        assert free_is_enough(free + least, share, needs.device_bytes)


def test_a_larger_device_never_gives_a_smaller_pool() -> None:
    pools = [
        divide_device(replace(NEEDS, device_bytes=gib * GIB)).decode_pool_bytes
        for gib in range(26, 192, 7)
    ]
    assert all(small < large for small, large in pairwise(pools))
