"""The router's policy, one decision at a time."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesaw_core.errors import InputError
from seesaw_core.routing.waves import (
    Hold,
    Intake,
    Prompt,
    Queue,
    Release,
    ReleaseReason,
    Replica,
    WavePolicy,
)

POLICY = WavePolicy(max_wait_s=10.0, light_requests=4)
BUSY = Replica(
    name="a",
    num_running=20,
    accepts=Intake.WAVES,
    room_tokens=1000,
    capacity_tokens=1000,
    window_age_s=5.0,
    cycle_s=10.0,
)


def prompts(*tokens: int) -> tuple[Prompt, ...]:
    """Prompts that are named 100, 101, ... in the order of their arrival."""
    return tuple(Prompt(id=number, tokens=each) for number, each in enumerate(tokens, start=100))


def queue(*tokens: int, oldest_wait_s: float = 0.1) -> Queue:
    return Queue(prompts=prompts(*tokens), oldest_wait_s=oldest_wait_s)


def test_a_replica_with_little_to_do_gets_a_prompt_at_once() -> None:
    idle = replace(BUSY, name="b", num_running=3, window_age_s=0.1)
    step = POLICY.next_step(queue(10, 10), [BUSY, idle])
    assert step == Release(replica="b", requests=(100,), reason=ReleaseReason.LITTLE_TO_DO)


def test_an_open_window_takes_what_its_buffer_holds() -> None:
    open_now = replace(BUSY, name="b", accepts=Intake.OPEN, room_tokens=250)
    step = POLICY.next_step(queue(100, 100, 100), [BUSY, open_now])
    assert step == Release(replica="b", requests=(100, 101), reason=ReleaseReason.WINDOW_OPEN)


def test_prompts_gather_while_another_window_has_just_begun() -> None:
    just_begun = replace(BUSY, name="b", window_age_s=1.0, room_tokens=100)
    step = POLICY.next_step(queue(10), [BUSY, just_begun])
    assert step == Hold(at_most_s=3.0, reason="another replica's window has just begun")


def test_the_replica_whose_window_is_longest_ago_has_its_turn() -> None:
    other = replace(BUSY, name="b", window_age_s=9.0)
    assert POLICY.next_step(queue(10, 20), [BUSY, other]) == Release(
        replica="b", requests=(100, 101), reason=ReleaseReason.ITS_TURN
    )


def test_a_prompt_that_has_waited_too_long_goes_whatever_the_turns() -> None:
    just_begun = replace(BUSY, window_age_s=0.0)
    step = POLICY.next_step(queue(10, oldest_wait_s=10.0), [just_begun])
    assert step == Release(replica="a", requests=(100,), reason=ReleaseReason.WAITED_TOO_LONG)


def test_a_burst_is_shared_with_replicas_that_have_next_to_nothing() -> None:
    """One buffer could take all of it, and the other replicas would idle."""
    roomy = replace(BUSY, num_running=4, room_tokens=10**6, capacity_tokens=10**6)
    replicas = [replace(roomy, name=name) for name in "abcd"]
    step = POLICY.next_step(queue(*[100] * 400), replicas)
    assert isinstance(step, Release)
    assert step.requests == tuple(range(100, 200))
    whole = queue(*[100] * 400)
    known_in_part = Queue(prompts=whole.prompts[:150], oldest_wait_s=0.0, num_behind=250)
    assert POLICY.next_step(known_in_part, replicas) == step
    rest = [replace(roomy, num_running=104), *replicas[1:]]
    step = POLICY.next_step(queue(*[100] * 300), rest)
    assert isinstance(step, Release)
    assert step.requests == tuple(range(100, 200))


def test_a_prompt_larger_than_any_buffer_still_goes() -> None:
    step = POLICY.next_step(queue(5000), [replace(BUSY, window_age_s=9.0)])
    assert isinstance(step, Release)
    assert step.requests == (100,)


def test_a_replica_that_always_accepts_prompts_gets_them_while_it_is_the_least_busy() -> None:
    static = Replica(name="b", num_running=19, accepts=Intake.ALWAYS)
    step = POLICY.next_step(queue(10, 10), [BUSY, static])
    assert step == Release(replica="b", requests=(100,), reason=ReleaseReason.ALWAYS_ACCEPTS)
    its_turn = replace(BUSY, window_age_s=9.0)
    step = POLICY.next_step(queue(10, 10), [its_turn, replace(static, num_running=21)])
    assert step == Release(replica="a", requests=(100, 101), reason=ReleaseReason.ITS_TURN)


def test_without_turns_each_prompt_goes_to_the_least_busy() -> None:
    other = replace(BUSY, name="b", num_running=19)
    step = replace(POLICY, stagger=False).next_step(queue(10, 10), [BUSY, other])
    assert step == Release(replica="b", requests=(100,), reason=ReleaseReason.LEAST_BUSY)


def test_figures_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="--max-wait-s must be above 0"):
        WavePolicy(max_wait_s=0)
    with pytest.raises(InputError, match="--light-requests must be at least 1"):
        WavePolicy(light_requests=0)


replicas = st.builds(
    Replica,
    name=st.sampled_from("abc"),
    num_running=st.integers(0, 50),
    accepts=st.sampled_from(Intake),
    room_tokens=st.integers(0, 1000),
    capacity_tokens=st.just(1000),
    window_age_s=st.none() | st.floats(0, 100),
    cycle_s=st.none() | st.floats(0.1, 100),
)


@given(
    tokens=st.lists(st.integers(1, 2000), min_size=1, max_size=20),
    oldest_wait_s=st.floats(0, 20),
    serving=st.lists(replicas, min_size=1, max_size=3, unique_by=lambda r: r.name),
)
def test_every_step_moves_prompts_or_says_when_to_look_again(
    tokens: list[int], oldest_wait_s: float, serving: list[Replica]
) -> None:
    step = POLICY.next_step(queue(*tokens, oldest_wait_s=oldest_wait_s), serving)
    if isinstance(step, Release):
        named = [prompt.id for prompt in prompts(*tokens)]
        assert step.requests
        assert list(step.requests) == named[: len(step.requests)]
        assert step.replica in {r.name for r in serving}
    else:
        assert step.at_most_s is not None
        assert 0 < step.at_most_s <= POLICY.max_wait_s
        assert oldest_wait_s < POLICY.max_wait_s


def test_each_reason_is_a_label_with_a_sentence_of_its_own() -> None:
    assert len({reason.sentence for reason in ReleaseReason}) == len(ReleaseReason)
    assert all(re.fullmatch("[a-z_]+", reason) for reason in ReleaseReason)
