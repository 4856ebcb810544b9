"""What counts as a stall, on virtual time: never as long as steps end, always once one does not."""

import asyncio
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesaw_worker.processes.liveness import Liveness
from seesaw_worker.processes.stalls import StallBounds, StallWatch, Verdict

TICK_S = 0.25
BOUNDS = StallBounds(unhealthy_s=60, exit_s=300)


def age(watch: StallWatch, seconds: float) -> Verdict:
    """Let time pass. Returns the worst verdict meanwhile."""
    worst = watch.verdict
    for _ in range(round(seconds / TICK_S)):
        watch.passed(TICK_S)
        worst = max(worst, watch.verdict)
    return worst


@given(st.lists(st.floats(min_value=0, max_value=60), max_size=20))
def test_a_worker_whose_steps_end_within_the_bound_is_never_unhealthy(steps: list[float]) -> None:
    watch = StallWatch(BOUNDS)
    for step_s in steps:
        watch.began("decode")
        assert age(watch, step_s) < Verdict.UNHEALTHY
        watch.ended("decode")
        assert watch.verdict is Verdict.FINE


@given(st.lists(st.floats(min_value=1, max_value=2.5), min_size=1, max_size=6))
def test_steps_may_grow_for_ever_as_long_as_none_is_far_longer_than_any_before(
    growth: list[float],
) -> None:
    watch, step_s = StallWatch(BOUNDS), 50.0
    for factor in growth:
        watch.began("prefill")
        assert age(watch, step_s) < Verdict.UNHEALTHY
        watch.ended("prefill")
        step_s = min(step_s * factor, 2000.0)


@given(
    st.lists(st.floats(min_value=0, max_value=60), max_size=10),
    st.floats(min_value=0.1, max_value=100),
)
def test_a_step_that_never_ends_makes_unhealthy_and_then_ends_the_worker(
    steps: list[float], expected_s: float
) -> None:
    watch = StallWatch(BOUNDS)
    watch.expect(expected_s)
    for step_s in steps:
        watch.began("decode")
        age(watch, step_s)
        watch.ended("decode")
    longest_s = max([expected_s, *steps])
    watch.began("decode")
    unhealthy_s = max(60, 3 * longest_s)
    ends_s = unhealthy_s + 240
    for bound_s, verdict in ((unhealthy_s, Verdict.UNHEALTHY), (ends_s, Verdict.HOPELESS)):
        assert age(watch, bound_s - watch.oldest[1] - 2 * TICK_S) < verdict
        age(watch, 4 * TICK_S)
        assert watch.verdict >= verdict


def test_a_stall_that_ends_makes_healthy_again_and_teaches_nothing() -> None:
    watch = StallWatch(BOUNDS)
    for _ in range(2):
        watch.began("decode")
        assert age(watch, 14) is Verdict.FINE
        assert age(watch, 2) is Verdict.SLOW
        assert age(watch, 50) is Verdict.UNHEALTHY
        watch.ended("decode")
        assert watch.verdict is Verdict.FINE


def test_one_engine_that_goes_on_does_not_hide_another_that_does_not() -> None:
    watch = StallWatch(BOUNDS)
    watch.began("prefill")
    for _ in range(70):
        watch.began("decode")
        age(watch, 1)
        watch.ended("decode")
    assert (watch.verdict, watch.oldest) == (Verdict.UNHEALTHY, ("prefill", 70.0))


@given(st.floats(min_value=0, max_value=2000))
def test_what_becomes_unhealthy_is_told_of_well_before(longest_s: float) -> None:
    watch = StallWatch(BOUNDS)
    watch.expect(longest_s)
    slow_s = watch.bound_s(Verdict.SLOW)
    assert longest_s <= slow_s <= watch.bound_s(Verdict.UNHEALTHY) / 2


class SlowEngine:
    """An engine that answers at once, although its steps were measured to take long."""

    def watched_cores(self) -> dict[str, Self]:
        return {"the engine": self}

    async def collective_rpc_async(self, method: str) -> None:
        assert method == "check_health"

    def hand_over(self) -> None:
        return None

    def expected_step_s(self) -> float:
        return 100.0


def test_bounds_that_slow_steps_have_made_longer_are_told_once() -> None:
    said: list[str] = []

    async def watch() -> None:
        bounds = StallBounds(unhealthy_s=0.04, exit_s=100)
        running = asyncio.create_task(
            Liveness(SlowEngine(), bounds, lambda *_: None, said.append).run()
        )
        async with asyncio.timeout(10):
            while not said:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        running.cancel()

    asyncio.run(watch())
    (line,) = said
    assert "unhealthy after 300 s and ends it after 400 s" in line


@pytest.mark.parametrize(
    ("bounds", "worst"),
    [
        (StallBounds(unhealthy_s=0, exit_s=0), Verdict.FINE),
        (StallBounds(unhealthy_s=0, exit_s=100), Verdict.HOPELESS),
        (StallBounds(unhealthy_s=100, exit_s=0), Verdict.UNHEALTHY),
        (StallBounds(unhealthy_s=2000, exit_s=100), Verdict.HOPELESS),
    ],
)
def test_a_bound_of_0_is_never_reached(bounds: StallBounds, worst: Verdict) -> None:
    watch = StallWatch(bounds)
    watch.began("decode")
    assert age(watch, 1000) is worst
