"""What instances cannot hold is refused with the figures and the flag to change."""

from dataclasses import replace

import pytest

from seesaw_core.elastic.limits import InstanceNeeds, check_needs
from seesaw_core.errors import CapacityError

NEEDS = InstanceNeeds(
    num_instances=2,
    tensor=2,
    weight_bytes=1 << 30,
    kv_bytes=1 << 20,
    token_bytes=1024,
    block_size=32,
    max_model_len=2016,
)
PLENTY = 1 << 40


def test_a_request_that_needs_all_instances_but_a_block_is_taken() -> None:
    assert NEEDS.pool_tokens == 2048
    check_needs(NEEDS, PLENTY)


@pytest.mark.parametrize(
    ("needs", "available_bytes", "words"),
    [
        (replace(NEEDS, kv_bytes=1000), PLENTY, "--kv-cache-memory-bytes=1000 cannot hold one"),
        (replace(NEEDS, max_model_len=2017), PLENTY, "--max-model-len=2017 is beyond the pool"),
        (NEEDS, (2 << 30) + 1, "--elastic-instances=2 takes 2.00 GiB: .* lower --kv-cache-memory"),
        (NEEDS, (1 << 30) + 1, "2.00 GiB for weights.*; give --elastic-instances=1 or fewer"),
        (replace(NEEDS, kv_bytes=1), 1 << 30, "not even one fits, so serve a smaller model"),
    ],
    ids=["block", "length", "memory", "instances", "model"],
)
def test_what_does_not_fit_is_refused(
    needs: InstanceNeeds, available_bytes: int, words: str
) -> None:
    with pytest.raises(CapacityError, match=words):
        check_needs(needs, available_bytes)


def test_the_memory_that_a_refusal_names_is_enough() -> None:
    needs = replace(NEEDS, max_model_len=5000)
    with pytest.raises(CapacityError) as refusal:
        check_needs(needs, PLENTY)
    named = int(str(refusal.value).split("--kv-cache-memory-bytes=")[1].split()[0])
    check_needs(replace(needs, kv_bytes=named), PLENTY)
    with pytest.raises(CapacityError):
        check_needs(replace(needs, kv_bytes=named - 32 * 1024), PLENTY)
