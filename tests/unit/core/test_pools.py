"""Which elastic replica gets a prompt, one decision at a time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesaw_core.routing.pools import Pool
from seesaw_core.routing.waves import (
    Intake,
    Prompt,
    Queue,
    Release,
    ReleaseReason,
    Replica,
    WavePolicy,
)

POLICY = WavePolicy()
IDLE = Replica(
    name="a",
    num_running=10,
    accepts=Intake.ALWAYS,
    pool=Pool(num_instances=4, capacity_tokens=100_000, free_tokens=60_000),
)


def reported(
    capacity: tuple[int, ...] = (1000, 0, 1000),
    free: tuple[int, ...] = (400, 0, 1000),
    queued_tokens: int = 0,
) -> Pool | None:
    """What a worker reports that has lost its second instance."""
    return Pool.reported(
        capacity_tokens=capacity,
        free_tokens=free,
        queued_tokens=queued_tokens,
        prefilling_tokens=700,
    )


def with_pool(name: str, num_running: int = 10, **changes: int) -> Replica:
    assert IDLE.pool is not None
    return replace(IDLE, name=name, num_running=num_running, pool=replace(IDLE.pool, **changes))


def chosen(tokens: int, *replicas: Replica, policy: WavePolicy = POLICY) -> Release:
    queue = Queue(prompts=(Prompt(id=7, tokens=tokens),), oldest_wait_s=0.0)
    step = policy.next_step(queue, replicas)
    assert isinstance(step, Release)
    assert step.requests == (7,)
    return step


def test_a_short_prompt_avoids_the_replica_that_computes_a_long_one() -> None:
    prefilling = with_pool("b", num_running=1, prefilling_tokens=50_000)
    step = chosen(100, prefilling, with_pool("a"))
    assert (step.replica, step.reason) == ("a", ReleaseReason.STARTS_SOONEST)
    assert chosen(100, prefilling, with_pool("a", queued_tokens=60_000)).replica == "b"


def test_a_long_prompt_goes_where_it_has_room_and_a_short_one_where_less_is_to_do() -> None:
    full, working = with_pool("a", free_tokens=5_000), with_pool("b", queued_tokens=2_000)
    assert chosen(1_000, full, working).replica == "a"
    assert chosen(20_000, full, working).replica == "b"


def test_what_has_been_sent_since_the_last_state_takes_room_and_time() -> None:
    before, after = reported(), reported(queued_tokens=1_300)
    assert before is not None
    assert after is not None
    assert (before.room_tokens, after.room_tokens) == (1_400, 100)
    assert before.tokens_before(200, 0) == 350
    assert after.tokens_before(200, 0) > 350 + (1_300 + before.capacity_tokens) / 2


def test_no_prompt_goes_to_a_pool_that_is_too_small_while_another_is_large_enough() -> None:
    small = with_pool("a", num_running=0, capacity_tokens=10_000, free_tokens=10_000)
    busy = with_pool("b", num_running=90, queued_tokens=90_000)
    step = chosen(20_000, small, busy)
    assert (step.replica, step.left_out) == ("b", True)
    step = chosen(5_000, small, busy)
    assert (step.replica, step.left_out) == ("a", False)
    assert chosen(20_000, small, busy, policy=WavePolicy(stagger=False)).replica == "b"


def test_a_prompt_too_long_for_all_goes_to_the_largest_pool_since_lengths_are_estimates() -> None:
    small = with_pool("a", num_running=0, capacity_tokens=10_000, free_tokens=10_000)
    assert chosen(500_000, small, with_pool("b"), with_pool("c", num_running=9)).replica == "c"


def test_elastic_replicas_need_no_waves_beside_those_that_re_shard() -> None:
    waves = Replica(
        name="w",
        num_running=12,
        accepts=Intake.WAVES,
        room_tokens=1_000,
        capacity_tokens=1_000,
        window_age_s=0.1,
        cycle_s=10.0,
    )
    step = chosen(100, waves, with_pool("a"))
    assert (step.replica, step.reason) == ("a", ReleaseReason.STARTS_SOONEST)
    light = replace(waves, num_running=2)
    step = chosen(100, light, with_pool("a"))
    assert (step.replica, step.reason) == ("w", ReleaseReason.LITTLE_TO_DO)
    tiny = with_pool("a", num_running=0, capacity_tokens=50, free_tokens=50)
    assert chosen(100, light, tiny).replica == "w"


def test_a_pool_is_read_without_its_lost_instances_and_none_while_it_loads() -> None:
    assert reported(queued_tokens=30) == Pool(
        num_instances=2,
        capacity_tokens=2_000,
        free_tokens=1_400,
        queued_tokens=30,
        prefilling_tokens=700,
    )
    assert reported((), ()) is None
    assert reported((0, 0), (5, 5)) is None
    odd = reported(free=(2**62, 2**62))
    assert odd is not None
    assert odd.free_tokens == 1_000


@pytest.mark.parametrize("claimed", [2**62, 100_000])
def test_a_worker_that_claims_to_be_idle_for_ever_gets_little_more_than_its_share(
    claimed: int,
) -> None:
    """Whatever it has got, its state says that there is nothing to do."""
    liar = with_pool("liar", 0, capacity_tokens=claimed, free_tokens=claimed)
    honest = with_pool("honest", 0, free_tokens=100_000, queued_tokens=3_000)
    counts = {"liar": 0, "honest": 0}
    for _ in range(1000):
        replicas = [replace(r, num_running=counts[r.name]) for r in (liar, honest)]
        counts[chosen(100, *replicas).replica] += 1
    assert counts["liar"] - counts["honest"] in range(5, 15)


_tokens = st.integers(0, 2**63 - 1)
_replicas = st.builds(
    Replica,
    name=st.sampled_from("abc"),
    num_running=st.integers(0, 50),
    accepts=st.just(Intake.ALWAYS),
    pool=st.builds(
        Pool,
        num_instances=st.integers(1, 256),
        capacity_tokens=_tokens,
        free_tokens=_tokens,
        queued_tokens=_tokens,
        prefilling_tokens=_tokens,
    ),
)


@given(
    tokens=st.integers(1, 2**40),
    replicas=st.lists(_replicas, min_size=1, max_size=3, unique_by=lambda r: r.name),
)
def test_a_prompt_is_released_at_once_whatever_pools_claim(
    tokens: int, replicas: list[Replica]
) -> None:
    step = chosen(tokens, *replicas)
    (replica,) = (r for r in replicas if r.name == step.replica)
    assert replica.may_hold(tokens) or not any(r.may_hold(tokens) for r in replicas)
