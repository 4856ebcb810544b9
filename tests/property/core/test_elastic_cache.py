"""KV that stays after its request: a hit is never wrong, and nobody lacks the room that it takes.

Requests whose prompts begin alike come, end and are aborted; iterations fail, instances are lost
and the cache is reset, at random. Memories that know what each slot holds carry out every step.
"""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesaw_core.elastic.driver import ElasticDriver
from seesaw_core.elastic.manager import ElasticPolicy
from seesaw_core.elastic.view import Decode, Migrate, Plan, Prefill, Step, View
from seesaw_core.policies import Policy
from support.elastic.costs import COSTS
from support.elastic.memory import Memories, Prefixes
from support.elastic.random_plans import RandomPlans

BLOCK = 8


class Served:
    """A request with its tokens. ``hashes`` are those of its whole blocks."""

    def __init__(self, tokens: list[int], num_outputs: int, prefixes: Prefixes) -> None:
        self.tokens, self.left = tokens, num_outputs
        self.contents: list[int] = []
        self.hashes: list[int] = []
        self._prefixes = prefixes
        self._number()

    def append(self, token: int) -> None:
        self.tokens.append(token)
        self.left -= 1
        self._number()

    def _number(self) -> None:
        self.contents = self._prefixes.of(self.tokens)
        self.hashes[:] = self.contents[BLOCK - 1 :: BLOCK]


class Instances:
    """Carries out plans on memories, and checks all that must hold after every event."""

    def __init__(
        self, policy: Policy[View, Plan], capacity: Sequence[int], rng: random.Random
    ) -> None:
        self.driver = ElasticDriver(policy, COSTS, capacity, block_tokens=BLOCK)
        self.memories = Memories(capacity)
        self.requests: dict[str, Served] = {}
        self.running: list[Step] = []
        self.now_s = 0.0
        self._rng, self._prefixes = rng, Prefixes()
        self._num_arrived = 0

    def arrive(self) -> None:
        """A prompt that often begins as others do."""
        rng = self._rng
        tokens = [0] * rng.choice([0, 20, 40, 80]) + [rng.randint(1, 2)] * rng.randint(0, 60)
        tokens += [rng.randint(1, 9) for _ in range(rng.randint(1, 30))]
        key, outputs = str(self._num_arrived), rng.randint(1, 20)
        if not self.driver.may_fit(len(tokens) + outputs):
            return
        self._num_arrived += 1
        request = self.requests[key] = Served(tokens, outputs, self._prefixes)
        hashes = request.hashes if rng.random() < 0.9 else ()
        self.driver.arrive(key, len(tokens), self.now_s, hashes)

    def plan(self) -> None:
        while True:
            plan = self.driver.next_plan(self.now_s)
            self.memories.hear(self.driver.cache.take_changes())
            for preemption in plan.preemptions:
                self.memories.release(preemption.key)
            contents = {key: request.contents for key, request in self.requests.items()}
            for migration in plan.migrations:
                self.memories.migrate(migration)
            for prefill in plan.prefills:
                self.memories.prefill(prefill, contents)
                for key, placement in prefill.placements.items():
                    assert placement.num_tokens == len(self.requests[key].tokens)
                    assert prefill.num_reused(key) < placement.num_tokens
                    self.memories.check(key, placement, contents[key])
            for decode in plan.decodes:
                self.memories.decode(decode, contents)
                for key in decode.masters:
                    self.memories.check(key, self.driver.pool.placement(key), contents[key])
            self.running += [*plan.migrations, *plan.prefills, *plan.decodes]
            self.check()
            if not plan.preemptions:
                return

    def check(self) -> None:
        pool, cached = self.driver.pool, self.driver.cache.tokens
        for i, free in enumerate(pool.free_tokens):
            assert 0 <= cached[i] <= free <= pool.capacity_tokens[i]

    def end(self) -> None:
        step = self.running.pop(self._rng.randrange(len(self.running)))
        finished = []
        if not isinstance(step, Migrate):
            for key in keys_of(step):
                if (request := self.requests.get(key)) is None:
                    continue
                request.append(self._rng.randint(1, 9))
                if request.left <= 0:
                    finished.append(key)
                    del self.requests[key]
        gone = [key for key in keys_of(step) if key not in self.requests]
        self.driver.end(step, finished)
        self.forget(gone)

    def fail(self) -> None:
        step = self.running.pop(self._rng.randrange(len(self.running)))
        self.driver.fail(step)
        for key in keys_of(step):
            if key not in self.driver.pool:
                self.memories.release(key)
            elif isinstance(step, Decode):
                self.memories.retract(step, key, self.driver.pool.placement(key))

    def abort(self) -> None:
        if not self.requests:
            return
        key = self._rng.choice(list(self.requests))
        del self.requests[key]
        self.driver.abort(key)
        if not any(key in keys_of(step) for step in self.running):
            self.forget([key])

    def lose(self) -> None:
        lost = next(i for i, n in enumerate(self.driver.pool.capacity_tokens) if n)
        if any(lost in self.involved(step) for step in self.running):
            return
        for key in self.driver.lose(lost):
            self.memories.release(key)
        self.memories.lose(lost)
        for key, request in list(self.requests.items()):
            if not self.driver.may_fit(len(request.tokens) + request.left):
                del self.requests[key]
                self.driver.abort(key)
                self.forget([key])

    def involved(self, step: Step) -> set[int]:
        """The instances that hold KV of a step's requests, and its own."""
        pool = self.driver.pool
        return {*step.instances, *(i for k in keys_of(step) for i in pool.placement(k).holders)}

    def reset(self) -> None:
        self.driver.reset_cache()
        assert self.driver.cache.tokens == (0,) * len(self.memories.instances)

    def forget(self, keys: Sequence[str]) -> None:
        self.memories.hear(self.driver.cache.take_changes())
        for key in keys:
            self.memories.release(key)
        self.check()


def keys_of(step: Step) -> tuple[str, ...]:
    match step:
        case Prefill():
            return tuple(step.placements)
        case Decode():
            return tuple(step.masters)
        case Migrate():
            return step.keys


@pytest.mark.parametrize("policy", [ElasticPolicy, RandomPlans])
@given(
    seed=st.integers(0, 2**32),
    capacity=st.lists(st.integers(80, 200), min_size=2, max_size=4),
)
def test_a_hit_is_never_wrong_and_cached_tokens_take_nobody_s_room(
    policy: type[Policy[View, Plan]], seed: int, capacity: list[int]
) -> None:
    rng = random.Random(seed)
    instances = Instances(policy(), capacity, rng)
    may_lose = rng.random() < 0.3
    for _ in range(rng.randint(20, 150)):
        instances.now_s += rng.random() * 0.2
        match rng.choices("aeefxlr", weights=[30, 30, 30, 3, 5, int(may_lose), 1])[0]:
            case "a" if len(instances.requests) < 12:
                instances.arrive()
            case "e" if instances.running:
                instances.end()
            case "f" if instances.running:
                instances.fail()
            case "x":
                instances.abort()
            case "l":
                may_lose = False
                instances.lose()
            case "r":
                instances.reset()
        instances.plan()
    for _ in range(3_000):
        if not len(instances.driver) and not instances.running:
            break
        if instances.running:
            instances.end()
        instances.now_s += 0.1
        instances.plan()
    assert not len(instances.driver), "a request never ends"
    assert len(instances.driver.pool) == 0
    instances.reset()
    assert len(instances.driver.cache) == instances.driver.cache.num_blocks == 0
    instances.memories.hear(instances.driver.cache.take_changes())
    for memory in instances.memories.instances:
        memory.begin_step()
        assert not memory.slots
