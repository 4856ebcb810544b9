"""A worker as the wave policy sees it: each mode's state becomes what the worker accepts."""

from dataclasses import replace
from typing import Any

from seesaw_core.messages import (
    BufferState,
    ElasticGroup,
    ElasticState,
    ModeName,
    TransitionEvent,
)
from seesaw_core.resharding.ledger import LedgerTotals
from seesaw_core.resharding.policy import Phase
from seesaw_core.routing.pools import Pool
from seesaw_core.routing.waves import Intake, Replica
from seesaw_router.dispatch.backend import Backend, Target
from support.worker_states import IDLE, SERVING

BUFFER = BufferState(
    block_size=10,
    block_bytes=1,
    blocks=LedgerTotals(capacity=100, free=60, reserved=0, stored=40, loading=0),
)
PART = replace(IDLE, buffer=BUFFER)
STATE = replace(SERVING, num_waiting=1, waiting_tokens=50, resharding=PART)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def backend(clock: Clock | None = None) -> Backend:
    unused: Any = None
    target = Target(name="a", url="http://a:1")
    return Backend(target, unused, on_change=lambda: None, clock=clock or Clock())


def to(phase: Phase) -> TransitionEvent:
    return TransitionEvent(
        number=1,
        to=phase,
        reason="",
        pause_s=0.0,
        weights_s=0.0,
        resume_s=0.0,
        total_s=0.0,
        weight_bytes=0,
    )


def test_a_static_worker_accepts_prompts_at_any_time() -> None:
    worker = backend()
    worker.mark_static()
    worker.sent(1, 500)
    assert worker.replica() == Replica(name="a", num_running=1, accepts=Intake.ALWAYS)


def test_a_worker_of_ours_without_a_buffer_has_no_windows_either() -> None:
    worker = backend()
    worker.update(replace(STATE, resharding=replace(PART, buffer=None)))
    assert worker.replica() == Replica(name="a", num_running=0, accepts=Intake.ALWAYS)


def test_a_worker_that_decodes_accepts_waves_and_one_that_prefills_any_prompt_that_fits() -> None:
    worker = backend()
    worker.update(STATE)
    decoding = Replica(
        name="a", num_running=0, accepts=Intake.WAVES, room_tokens=550, capacity_tokens=1000
    )
    assert worker.replica() == decoding
    worker.update(to(Phase.PREFILL))
    assert worker.replica() == replace(decoding, accepts=Intake.OPEN, window_age_s=0.0)
    worker.update(to(Phase.DECODE))
    assert worker.replica() == replace(decoding, window_age_s=0.0)


def test_prompts_on_their_way_take_room_until_a_state_counts_them() -> None:
    worker = backend()
    worker.update(STATE)
    worker.sent(1, 200)
    worker.sent(2, 300)
    assert worker.replica().room_tokens == 50
    worker.ended(2)
    assert worker.replica().room_tokens == 350
    worker.sent(3, 5000)
    assert worker.replica().room_tokens == 0
    worker.update(STATE)
    assert worker.replica().room_tokens == 550


def test_windows_are_remembered_while_a_worker_is_lost() -> None:
    clock = Clock()
    worker = backend(clock)
    worker.update(STATE)
    worker.update(to(Phase.PREFILL))
    clock.now_s += 8
    worker.update(to(Phase.PREFILL))
    worker.mark_lost("it cannot be reached")
    clock.now_s += 3
    worker.update(STATE)
    replica = worker.replica()
    assert (replica.window_age_s, replica.cycle_s) == (3.0, 8.0)


def test_an_elastic_worker_shows_its_pool_less_what_is_on_its_way() -> None:
    part = ElasticState(
        capacity_tokens=(600, 600),
        free_tokens=(100, 500),
        lost_instances=(),
        groups=(
            ElasticGroup(kind="prefill", instances=(0,), num_requests=1, num_tokens=70),
            ElasticGroup(kind="decode", instances=(1,), num_requests=9, num_tokens=9),
        ),
        num_running=1,
        prefills_by_degree={},
        decodes_by_degree={},
        failed_iterations=0,
        preemptions=0,
        restarts=0,
        migrated_tokens=0,
    )
    state = replace(STATE, mode=ModeName.ELASTIC, resharding=None, elastic=part)
    clock = Clock()
    worker = backend(clock)
    worker.update(state)
    worker.sent(1, 200)
    pool = Pool(
        num_instances=2,
        capacity_tokens=1200,
        free_tokens=600,
        queued_tokens=250,
        prefilling_tokens=70,
    )
    assert worker.replica() == Replica(name="a", num_running=1, accepts=Intake.ALWAYS, pool=pool)
    clock.now_s += 0.5
    worker.update(state)  # of what its engine said before the prompt came
    assert worker.replica().pool == pool
    clock.now_s += 0.5
    worker.update(state)
    assert worker.replica().pool == replace(pool, queued_tokens=50)
    worker.mark_lost("it cannot be reached")
    assert worker.replica().pool is None
