"""What must hold in every simulation, whatever is asked of it. Lengths in tokens."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seesaw_core.errors import CapacityError, InputError, LayoutError
from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.models import dense_model
from seesaw_core.planner.profiles import Profile
from seesaw_core.planner.workloads import Request
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_core.routing.waves import WavePolicy
from seesaw_core.units import GIB
from seesaw_sim.draws import Lengths, arriving, draw_requests
from seesaw_sim.reports import Report
from seesaw_sim.simulate import Scenario, simulate

MODEL = dense_model(
    name="m",
    shape=ModelShape(num_layers=48, num_heads=32, num_kv_heads=8, head_dim=128),
    hidden=4096,
    intermediate=14336,
    vocab=32000,
)
L4 = builtin_catalogue().accelerator("L4")
TIGHT = replace(L4, memory_bytes=7 * GIB)  # pools of some 10,000 tokens: requests are preempted
ALWAYS = PhasePolicy(reshard=Reshard.ALWAYS)
BASE = Scenario(
    model=MODEL,
    device=L4,
    prefill=Layout(pipeline=4),
    decode=Layout(tensor=4),
    buffer_bytes=4 << 30,
    policy=ALWAYS,
)

layouts = st.sampled_from(
    [Layout(tensor=4), Layout(pipeline=4), Layout(tensor=2, pipeline=2), Layout(data=2, tensor=2)]
)
requests = st.lists(
    st.builds(
        Request,
        prompt_tokens=st.integers(1, 4000),
        output_tokens=st.integers(1, 400),
        arrival_s=st.sampled_from([0.0, 0.0, 1.0, 30.0, 31.5, 500.0]),
    ),
    min_size=1,
    max_size=40,
)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    prefill, decode = draw(layouts), draw(layouts)
    if prefill.data != decode.data:
        prefill = decode
    is_tight = decode.data == 1 and draw(st.booleans())
    return replace(
        BASE,
        prefill=prefill,
        decode=decode,
        num_replicas=draw(st.sampled_from([1, 1, 2, 3])),
        step_tokens=draw(st.sampled_from([256, 2048])),
        max_requests=draw(st.sampled_from([2, 16, 256])),
        buffer_bytes=draw(st.sampled_from([1 << 29, 4 << 30])),
        policy=draw(st.sampled_from([ALWAYS, PhasePolicy(), PhasePolicy(reshard=Reshard.NEVER)])),
        device=TIGHT if is_tight else L4,
        shares_pool=is_tight or draw(st.booleans()),
        disaggregated=draw(st.sampled_from([False, False, False, True])),
    )


def total(report: Report) -> tuple[int, int]:
    return report.prompt_tokens, report.output_tokens


@settings(max_examples=150, deadline=None)
@given(scenario=scenarios(), asked=requests)
def test_every_request_finishes_with_all_its_tokens_within_the_memory(
    scenario: Scenario, asked: list[Request]
) -> None:
    report = simulate(scenario, asked)  # raises if one has not finished
    assert report.num_requests == len(asked)
    assert report.generated_tokens == sum(r.output_tokens for r in asked)
    assert report.peak_pool_share <= 1.0
    assert report.peak_buffer_tokens <= max(report.buffer_tokens, 0)
    assert report.left_tokens == 0  # nothing stays in any pool or buffer
    assert report.ttft.mean <= report.latency.mean
    servers = scenario.num_replicas * scenario.decode.data
    if scenario.disaggregated:
        servers += scenario.num_replicas * scenario.prefill.data
    assert sum(report.seconds_by_phase.values()) <= servers * (report.duration_s + 1e-6)


@settings(max_examples=25, deadline=None)
@given(scenario=scenarios(), asked=requests)
def test_the_same_input_gives_the_same_report(scenario: Scenario, asked: list[Request]) -> None:
    assert simulate(scenario, asked) == simulate(scenario, asked)


@settings(max_examples=40, deadline=None)
@given(asked=requests, layout=st.sampled_from([Layout(tensor=4), Layout(pipeline=4)]))
def test_without_re_sharding_a_worker_is_the_static_engine(
    asked: list[Request], layout: Layout
) -> None:
    """Prompts go in place at once, so the phase policy and its buffer must change nothing."""
    static = replace(BASE, prefill=layout, decode=layout, policy=PhasePolicy())
    other = Layout(tensor=2, pipeline=2)
    never = replace(
        BASE,
        prefill=other,
        decode=layout,
        policy=PhasePolicy(reshard=Reshard.NEVER),
        shares_pool=True,
    )
    # Both keep the same memory: the arena is the larger of two shards, here equal enough.
    assert simulate(never, asked).duration_s == pytest.approx(
        simulate(static, asked).duration_s, rel=0.02
    )


@settings(max_examples=40, deadline=None)
@given(
    layout=st.sampled_from([Layout(tensor=4), Layout(pipeline=4)]),
    reshards=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_preempted_requests_lose_no_token(layout: Layout, reshards: bool, seed: int) -> None:
    asked = draw_requests(
        60,
        prompts=Lengths.around(300, spread=1),
        outputs=Lengths.around(900, spread=1),
        seed=seed,
        longest=6000,
    )
    tight = replace(BASE, device=TIGHT, decode=layout, shares_pool=True)
    prefill = Layout(tensor=2, pipeline=2) if reshards else layout
    report = simulate(replace(tight, prefill=prefill), asked)
    assert report.preemptions > 0
    assert report.generated_tokens == report.output_tokens
    assert report.peak_pool_share <= 1.0
    assert report.left_tokens == 0


def test_disaggregated_engines_hold_a_prompt_until_it_has_moved_and_refuse_what_never_fits() -> (
    None
):
    asked = [Request(prompt_tokens=3000, output_tokens=400)] * 40
    apart = replace(
        BASE,
        device=TIGHT,
        prefill=Layout(tensor=4),
        decode=Layout(tensor=4),
        disaggregated=True,
    )
    found = simulate(apart, asked)
    # Decoding is slower, so prompts wait in the prefill pool and hold up those behind them.
    first_s = simulate(replace(apart, prefill=Layout(data=2, tensor=4)), asked).ttft.p90
    assert first_s > found.latency.p50 / 2
    assert found.left_tokens == 0
    with pytest.raises(CapacityError, match=r"a request of 40,001 tokens does not fit into the"):
        simulate(apart, [Request(prompt_tokens=1, output_tokens=40_000)])


def test_of_a_prompt_in_the_prefix_cache_only_the_rest_is_computed_but_all_of_it_is_read() -> None:
    static = replace(BASE, prefill=BASE.decode, policy=PhasePolicy())
    cached, short, whole = (
        simulate(static, [Request(prompt_tokens=n, output_tokens=200, cached_tokens=c)] * 8)
        for n, c in ((4000, 3900), (100, 0), (4000, 0))
    )
    assert short.ttft.mean < cached.ttft.mean < 0.2 * whole.ttft.mean
    assert 1.02 * short.tpot.p50 < cached.tpot.p50 < whole.tpot.p50
    assert cached.left_tokens == 0


def test_free_transitions_between_equal_layouts_cost_what_two_phases_cost() -> None:
    """All prompts, then all answers, under one layout: a wave that the buffer holds as a whole."""
    asked = [Request(prompt_tokens=1000, output_tokens=100)] * 32
    pair = replace(
        BASE,
        prefill=Layout(tensor=4),
        decode=Layout(tensor=4),
        device=replace(L4, host_link=replace(L4.host_link, bytes_per_s=1e18)),
        profile=Profile(transition_overhead_ms=0.0),
        shares_pool=True,
    )
    found = simulate(pair, asked)
    costs = pair.costs(Layout(tensor=4))
    prefill_s = sum(
        costs.prefill_s(2048 if i < 15 else 32000 - 15 * 2048, 2048 * 500) for i in range(16)
    )
    assert found.seconds_by_phase["prefill"] == pytest.approx(prefill_s, rel=0.05)
    assert found.transitions == 2
    assert found.seconds_by_phase.get("transition", 0.0) == pytest.approx(0, abs=1e-6)
    busy = sum(found.seconds_by_phase.values())
    assert found.duration_s == pytest.approx(busy, rel=0.02)


def test_a_larger_buffer_means_fewer_transitions() -> None:
    asked = draw_requests(
        600, prompts=Lengths.around(1500, spread=0.5), outputs=Lengths.around(150, spread=0.5)
    )
    patient = replace(BASE, policy=PhasePolicy(reshard=Reshard.ALWAYS, flush_timeout_s=1e6))
    found = [
        simulate(replace(patient, buffer_bytes=gib << 30), asked).transitions for gib in (1, 4, 16)
    ]
    assert found[0] > found[1] > found[2] >= 2


def test_replicas_share_a_burst() -> None:
    asked = [Request(prompt_tokens=500, output_tokens=100)] * 400
    one, two = (simulate(replace(BASE, num_replicas=n), asked).duration_s for n in (1, 2))
    assert one / two > 1.6


def test_near_saturation_taking_turns_needs_fewer_transitions_and_keeps_tokens_coming() -> None:
    asked = draw_requests(
        1500, prompts=Lengths.around(800, spread=0.3), outputs=Lengths.around(100, spread=0.3)
    )
    coming = arriving(asked, per_s=20.0)
    turns, at_once = (
        simulate(replace(BASE, num_replicas=4, waves=WavePolicy(stagger=stagger)), coming)
        for stagger in (True, False)
    )
    assert turns.transitions < 0.6 * at_once.transitions
    assert turns.tpot.mean < 0.6 * at_once.tpot.mean
    assert turns.requests_per_s > 0.97 * at_once.requests_per_s


def test_prompts_larger_than_the_buffer_go_in_place() -> None:
    asked = [Request(prompt_tokens=n, output_tokens=20) for n in (100, 3000, 100, 3000)]
    report = simulate(replace(BASE, buffer_bytes=1 << 25), asked)
    assert report.buffer_tokens < 3000
    assert report.generated_tokens == 80
    assert report.peak_buffer_tokens <= 2 * 112


def test_disaggregated_engines_finish_too() -> None:
    asked = [Request(prompt_tokens=1000, output_tokens=100)] * 50
    apart = replace(BASE, prefill=Layout(tensor=2), decode=Layout(tensor=2), disaggregated=True)
    report = simulate(apart, asked)
    assert report.generated_tokens == 5000
    assert report.left_tokens == 0
    assert set(report.seconds_by_phase) == {"prefill", "decode"}


@pytest.mark.parametrize(
    ("change", "asked", "error", "message"),
    [
        ({}, [], InputError, "no requests"),
        ({"max_requests": 0}, None, InputError, "max_requests=0 must be at least 1"),
        ({"prefill": Layout(pipeline=2)}, None, LayoutError, "must be equal"),
        (
            {"prefill": Layout(), "decode": Layout()},
            None,
            CapacityError,
            "leave no memory for KV on L4",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    change: dict[str, object], asked: list[Request] | None, error: type[Exception], message: str
) -> None:
    some = [Request(prompt_tokens=3000, output_tokens=10)] if asked is None else asked
    with pytest.raises(error, match=message):
        simulate(replace(BASE, **change), some)  # type: ignore[arg-type]
