"""Whatever comes and goes: every request ends, groups never overlap, and no KV stays behind."""

import heapq
from collections.abc import Iterable
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from seesaw_core.elastic.driver import ElasticDriver
from seesaw_core.elastic.manager import ElasticPolicy
from seesaw_core.elastic.view import Decode, Migrate, Prefill, Step
from support.elastic.costs import COSTS


class Instances:
    """Runs plans on a virtual clock. Each iteration of a group is checked as it begins."""

    def __init__(self, capacity_tokens: list[int]) -> None:
        self.driver = ElasticDriver(ElasticPolicy(), COSTS, capacity_tokens)
        self.now_s = 0.0
        self.left: dict[str, int] = {}
        self._ends: list[tuple[float, int, Step]] = []
        self._number = count()

    def start(self) -> None:
        while True:
            plan = self.driver.next_plan(self.now_s)
            for migration in plan.migrations:
                self._start(migration, migration.num_tokens * COSTS.migrate_s)
            for prefill in plan.prefills:
                lengths = [p.num_tokens for p in prefill.placements.values()]
                self._start(prefill, COSTS.prefill[len(prefill.instances)].seconds(lengths))
            for decode in plan.decodes:
                for key in decode.masters:
                    held = self.driver.pool.placement(key).tokens_by_instance()
                    assert set(held) <= set(decode.instances), "KV outside of the group"
                self._start(decode, COSTS.decode_step_s)
            if not plan.preemptions:
                return

    def run(self, until_s: float = float("inf")) -> None:
        while self._ends and self._ends[0][0] <= until_s:
            self.now_s, _, step = heapq.heappop(self._ends)
            keys: Iterable[str] = ()
            if not isinstance(step, Migrate):
                keys = step.placements if isinstance(step, Prefill) else step.masters
            for key in keys:
                self.left[key] -= 1
            self.driver.end(step, [key for key in keys if self.left[key] <= 0])
            self.start()

    def _start(self, step: Step, seconds: float) -> None:
        heapq.heappush(self._ends, (self.now_s + seconds, next(self._number), step))


REQUESTS = st.lists(
    st.tuples(
        st.floats(0, 0.5),  # seconds after the one before
        st.integers(1, 400),  # prompt tokens
        st.integers(1, 40),  # output tokens
        st.booleans(),  # whether its client goes away
    ),
    min_size=1,
    max_size=25,
)


@given(capacity=st.lists(st.integers(150, 300), min_size=3, max_size=4), requests=REQUESTS)
def test_every_request_ends_and_the_pool_is_empty_again(
    capacity: list[int], requests: list[tuple[float, int, int, bool]]
) -> None:
    instances = Instances(capacity)
    for number, (pause_s, prompt, outputs, leaves) in enumerate(requests):
        arrives_s = instances.now_s + pause_s
        instances.run(arrives_s)
        instances.now_s = arrives_s
        if not instances.driver.may_fit(prompt + outputs):
            continue
        instances.left[str(number)] = outputs
        instances.driver.arrive(str(number), prompt, instances.now_s)
        instances.start()
        if leaves and number:
            instances.driver.abort(str(number - 1))
            instances.start()
    instances.run()
    assert len(instances.driver) == 0
    assert instances.driver.pool.free_tokens == tuple(capacity)
    assert len(instances.driver.pool) == 0


@given(capacity=st.lists(st.integers(150, 300), min_size=3, max_size=4), requests=REQUESTS)
def test_failed_iterations_and_lost_instances_cost_no_request(
    capacity: list[int], requests: list[tuple[float, int, int, bool]]
) -> None:
    """Every third iteration fails; after a while an instance is lost."""
    driver = ElasticDriver(ElasticPolicy(), COSTS, capacity)
    left: dict[str, int] = {}
    for number, (_, prompt, outputs, _) in enumerate(requests):
        if prompt + outputs <= sum(capacity[1:]):
            left[str(number)] = outputs
            driver.arrive(str(number), prompt, 0.0)
    running: list[Prefill | Decode | Migrate] = []
    lost: int | None = None
    for step_number in range(4_000):
        while True:
            plan = driver.next_plan(step_number * 0.1)
            running += [*plan.migrations, *plan.prefills, *plan.decodes]
            if not plan.preemptions:
                break
        if step_number > 10 and lost is None and not any(0 in s.instances for s in running):
            driver.lose(lost := 0)
        if not running:
            if not len(driver):
                break
            continue
        step = running.pop(0)
        if step_number % 3 == 0:
            driver.fail(step)
            continue
        keys = keys_of(step)
        if not isinstance(step, Migrate):
            for key in keys:
                left[key] -= 1
        driver.end(step, [key for key in keys if left[key] <= 0])
    assert len(driver) == 0
    assert set(left.values()) <= {0}
    assert driver.pool.free_tokens == driver.pool.capacity_tokens


def keys_of(step: Prefill | Decode | Migrate) -> list[str]:
    if isinstance(step, Migrate):
        return list(step.keys)
    return list(step.placements if isinstance(step, Prefill) else step.masters)
