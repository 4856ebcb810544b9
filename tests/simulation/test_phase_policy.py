"""Whole runs of the phase policy on two small model engines, in virtual time."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seesaw_core.resharding.policy import (
    PhasePolicy,
    Reshard,
)
from support.phase_machine import EPSILON_S, Machine, Request, Run, batch, stream

ALWAYS = PhasePolicy(reshard=Reshard.ALWAYS)
AUTO = PhasePolicy(reshard=Reshard.AUTO)
NEVER = PhasePolicy(reshard=Reshard.NEVER)

POLICIES = st.builds(
    PhasePolicy,
    reshard=st.sampled_from(Reshard),
    flush_timeout_s=st.sampled_from([0.001, 0.3, 2.0, 10.0]),
    low_watermark=st.sampled_from([0.0, 0.2, 0.9]),
    dwell_transitions=st.sampled_from([0.0, 1.0, 3.0]),
    min_gain=st.sampled_from([1.0, 1.5]),
)
MACHINES = st.builds(
    Machine,
    prefill_tokens_per_s=st.sampled_from([500.0, 8000.0]),
    in_place_tokens_per_s=st.sampled_from([500.0, 2000.0]),
    transition_s=st.sampled_from([0.0, 0.1, 1.0, 7.0]),
    slots=st.integers(1, 6),
    pool=st.integers(1, 6),
    num_blocks=st.integers(64, 160),
)
REQUESTS = st.lists(
    st.builds(
        lambda tokens, outputs, arrives_s, patience_s: Request(
            name="", tokens=tokens, outputs=outputs, arrives_s=arrives_s,
            aborts_s=arrives_s + patience_s,
        ),
        st.one_of(st.integers(1, 64 * 16), st.integers(900, 64 * 16)),
        st.integers(1, 60),
        st.one_of(st.just(0.0), st.floats(0.0, 30.0)),
        st.one_of(st.just(inf), st.floats(0.0, 8.0)),
    ),
    min_size=1,
    max_size=14,
)  # fmt: skip


@settings(max_examples=300)
@given(POLICIES, MACHINES, REQUESTS)
def test_every_request_finishes_and_nobody_waits_without_bound(
    policy: PhasePolicy, machine: Machine, requests: list[Request]
) -> None:
    """Capacity, idle switches, endless sleeps and spins are checked all the way by the model."""
    requests = [replace(r, name=f"r{i}") for i, r in enumerate(requests)]
    report = Run(policy, machine, requests).to_end()

    dwell_s = policy.dwell_transitions * machine.transition_s
    flush_s = max(policy.flush_timeout_s, dwell_s)
    assert report.standstill.longest_s <= flush_s + machine.longest_step_s + EPSILON_S
    assert all(age_s >= dwell_s - EPSILON_S for age_s in report.busy_decode_phases_s)
    if policy.reshard is Reshard.ALWAYS:
        assert report.overdue.longest_s <= flush_s + machine.longest_step_s + EPSILON_S
        assert report.in_place == 0
    if policy.reshard is Reshard.NEVER:
        assert report.transitions_s == []
        assert report.in_place <= len(requests)


@pytest.mark.parametrize("dwell", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("flush_timeout_s", [0.01, 2.0, 10.0])
def test_transitions_take_no_more_than_dwell_allows_under_load(
    dwell: float, flush_timeout_s: float
) -> None:
    policy = replace(ALWAYS, dwell_transitions=dwell, flush_timeout_s=flush_timeout_s)
    report = Run(policy, Machine(), stream(100, gap_s=0.3, tokens=400, outputs=500)).to_end()
    # The last decode phase may run out of work, so let one cycle go uncounted.
    assert len(report.transitions_s) > 4
    counted_s = sum(report.transitions_s[:-2])
    assert counted_s / report.ended_s <= 2 / (2 + dwell)


def test_a_batch_takes_as_few_waves_as_the_buffer_allows() -> None:
    machine = Machine(num_blocks=1024, pool=8, slots=64)  # 32 prompts of 500 tokens
    policy = replace(ALWAYS, flush_timeout_s=60.0, low_watermark=0.0)
    report = Run(policy, machine, batch(128)).to_end()
    assert report.waves == [32, 32, 32, 32]


def test_a_backlog_older_than_the_flush_timeout_does_not_bring_tiny_waves() -> None:
    """Offline, every prompt soon has waited longer than any timeout."""
    machine = Machine(num_blocks=1024, pool=2, slots=64, transition_s=0.2)
    policy = replace(ALWAYS, flush_timeout_s=10.0)
    report = Run(policy, machine, batch(128)).to_end()
    assert min(report.busy_decode_phases_s) >= 10.0 - EPSILON_S
    assert report.share_in_transition < 0.05


def test_without_resharding_the_engines_never_change() -> None:
    report = Run(NEVER, Machine(), batch(40)).to_end()
    assert report.transitions_s == []
    assert report.in_place == 40


def test_always_resharding_takes_every_prompt_through_the_buffer() -> None:
    report = Run(ALWAYS, Machine(transition_s=20.0), batch(40)).to_end()
    assert report.in_place == 0
    assert sum(report.waves) == 40


@pytest.mark.parametrize(
    ("machine", "lengths"),
    [
        pytest.param(Machine(transition_s=30.0), (500, 60), id="transitions are dear"),
        pytest.param(
            Machine(prefill_tokens_per_s=2000.0, in_place_tokens_per_s=8000.0),
            (500, 60),
            id="prefill is slower",
        ),
        pytest.param(Machine(), (20, 60), id="prompts are short"),
    ],
)
def test_auto_prefills_in_place_where_resharding_does_not_pay(
    machine: Machine, lengths: tuple[int, int]
) -> None:
    tokens, outputs = lengths
    report = Run(AUTO, machine, batch(60, tokens=tokens, outputs=outputs)).to_end()
    assert report.in_place >= 60 - (report.waves[0] if report.waves else 0)
    assert len(report.waves) <= 1  # one wave to learn what prefill costs


CHEAP = Machine(in_place_tokens_per_s=500.0, transition_s=0.1, num_blocks=512)


@pytest.mark.parametrize(
    ("machine", "requests"),
    [
        pytest.param(CHEAP, batch(120), id="a batch that is there at once"),
        pytest.param(CHEAP, stream(120, gap_s=0.1, tokens=500, outputs=60), id="a steady stream"),
        pytest.param(
            replace(CHEAP, num_blocks=128, slots=64, pool=2),
            batch(120),
            id="a buffer that fills before the decode engine does",
        ),
    ],
)
def test_auto_reshards_where_prefill_is_faster_and_transitions_are_cheap(
    machine: Machine, requests: list[Request]
) -> None:
    report = Run(AUTO, machine, requests).to_end()
    assert sum(report.waves) > 0.8 * len(requests)


def test_auto_is_not_slower_than_both_fixed_choices_by_more_than_a_tenth() -> None:
    for machine in (Machine(), Machine(transition_s=5.0), Machine(in_place_tokens_per_s=500.0)):
        auto, always, never = (
            Run(policy, machine, batch(100)).to_end().ended_s for policy in (AUTO, ALWAYS, NEVER)
        )
        assert auto <= 1.1 * max(always, never)
