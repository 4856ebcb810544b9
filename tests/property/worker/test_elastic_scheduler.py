"""The scheduler of elastic instances over ranks without a model: nothing is lost, whatever happens.

Requests come and are aborted, iterations fail, instances die. The ranks keep real slot tables and
hold each task to what they have. Afterwards every ledger is empty.
"""

import gc
import random
import tracemalloc
from collections.abc import Mapping
from itertools import accumulate
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.request import Request, RequestStatus

from seesaw_core.elastic.view import Migrate
from seesaw_worker.modes.elastic.scheduler import ElasticScheduler
from seesaw_worker.modes.elastic.settings import DEFAULT_POLICY, InstanceSettings
from seesaw_worker.modes.elastic.slots import SlotTable
from seesaw_worker.modes.elastic.tasks import (
    ElasticOutput,
    ElasticStep,
    Ended,
    Launch,
    PromptRow,
    SampledRow,
    Task,
    TaskKind,
    TaskResult,
)

BLOCK = 32
RANDOM = "support.elastic.random_plans.RandomPlans"


class Rank:
    """One instance without a model. Its tokens are a function of the request's tokens so far.

    A slot holds the hash of all tokens up to its own, as KV depends on them all.
    """

    def __init__(self, number: int, num_slots: int, wire: dict[str, list[int]]) -> None:
        self._wire = wire
        self.slots = SlotTable(num_slots, BLOCK)
        self.outputs: dict[str, list[int]] = {}
        self._contents = [0] * num_slots
        self._number = number

    def run(self, task: Task, requests: Mapping[str, Request]) -> TaskResult:
        for change in task.slot_changes:
            self.slots.change(change.key, change.num_tokens, change.new_key)
        for key in task.forgotten:
            self.outputs.pop(key, None)
        for row in task.sampled:
            self.learn(row)
        for prompt in task.prompts:
            self.prefill(prompt, requests[prompt.key])
        for token in task.tokens:
            self.slots.keep(token.key, token.num_kept)
            (slot,) = self.slots.take(token.key, 1).tolist()
            if (request := requests.get(token.key)) is not None:
                self._contents[slot] = prefixes(request)[token.position]
        for served in (row for rows in task.served.values() for row in rows):
            self.slots.keep(served.key, served.num_kept)
        if task.kind is TaskKind.MIGRATE:
            self.move(task)
        keys = [row.key for row in task.sampled]
        seeded = {row.key: np.zeros(4, np.uint8) for row in task.sampled}
        tokens = [10 + len(self.outputs[key]) % 80 for key in keys]
        return TaskResult(keys=keys, token_ids=tokens, generators=seeded)

    def prefill(self, prompt: PromptRow, request: Request) -> None:
        cached, contents = prompt.cached.get(self._number, 0), prefixes(request)
        self.slots.keep(prompt.key, 0 if prompt.copied_from else cached)
        if cached and prompt.copied_from:
            slots = self.slots.take(prompt.key, cached).tolist()
            for old, new in zip(self.slots.of(prompt.copied_from).slots, slots, strict=False):
                self._contents[new] = self._contents[old]
        held = [self._contents[slot] for slot in self.slots.of(prompt.key).slots]
        assert len(held) == cached
        assert len(held) == len(set(held))
        assert set(held) <= set(contents[: prompt.num_cached]), "what was cached is another's"
        assert all(run.start >= prompt.num_cached for run in prompt.runs)
        runs = [run for run in prompt.runs if run.instance == self._number]
        kept = [content for run in runs for content in contents[run.start : run.stop]]
        slots = self.slots.take(prompt.key, len(kept)).tolist()
        for slot, content in zip(slots, kept, strict=True):
            self._contents[slot] = content

    def learn(self, row: SampledRow) -> None:
        if row.state is not None:
            self.outputs[row.key] = []
        known = self.outputs[row.key]
        assert row.outputs_from <= len(known), "the instance misses outputs"
        del known[row.outputs_from :]
        known += row.outputs
        assert known == [10 + i % 80 for i in range(len(known))], "outputs are out of order"

    def move(self, task: Task) -> None:
        for row in task.moved:
            if self._number == task.ring[0]:
                self.slots.keep(row.key, row.num_moved)
                self._wire[row.key] = [self._contents[s] for s in self.slots.of(row.key).slots]
                self.slots.release(row.key)
            else:
                self.slots.keep(row.key, row.num_kept)
                slots = self.slots.take(row.key, row.num_moved).tolist()
                sent = self._wire.pop(row.key, [-1] * len(slots))  # the source may be dead
                for slot, content in zip(slots, sent, strict=True):
                    self._contents[slot] = content


def prefixes(request: Request) -> list[int]:
    """Return [tokens] the hash of all tokens up to each."""
    return list(accumulate(request.all_token_ids, lambda last, token: hash((last, token))))


class Grammars:
    def accept_tokens(self, request: Request, tokens: list[int]) -> bool:
        return True


class Engine:
    """Steps a scheduler as vLLM's engine core does. Iterations end in random order."""

    def __init__(self, number: int, blocks: int, policy: str, seed: int) -> None:
        self.rng = random.Random(seed)
        settings = InstanceSettings(num_instances=number, tensor=1, policy=policy)
        config = SimpleNamespace(
            additional_config=settings.added_to({}),
            scheduler_config=SimpleNamespace(max_num_seqs=8),
            cache_config=SimpleNamespace(enable_prefix_caching=True),
            model_config=SimpleNamespace(max_model_len=(blocks - 1) * BLOCK),
        )
        self.scheduler = ElasticScheduler(
            cast("Any", config),
            cast("Any", SimpleNamespace(num_blocks=blocks)),
            cast("Any", Grammars()),
            BLOCK,
            BLOCK // 2,
        )
        init_none_hash(sha256)
        self._hasher = get_request_block_hasher(BLOCK // 2, sha256)
        wire: dict[str, list[int]] = {}
        self.ranks = [Rank(i, blocks // number * BLOCK, wire) for i in range(number)]
        self.dead: set[int] = set()
        self.told: set[int] = set()
        self.open: list[tuple[Launch, dict[int, TaskResult]]] = []
        self.finished: dict[str, Any] = {}
        self.iterations = 0
        self._numbers = iter(range(10**9))

    def add(self, prompt: int, outputs: int) -> str:
        params = SamplingParams(max_tokens=outputs, seed=1, temperature=1.0, ignore_eos=True)
        key = f"r{next(self._numbers)}"
        tokens = [5] * prompt
        if prompt % 3 == 0:
            tokens[prompt // 2 :] = [6] * (prompt - prompt // 2)
        request = Request(key, tokens, params, None, block_hasher=self._hasher)
        self.scheduler.add_request(request)
        return key

    def step(self, *, failing: float = 0.0) -> None:
        if not self.open:
            self.scheduler._planned_s = 0.0  # no time passes here, so let it plan again
        output = self.scheduler.schedule()
        step = output.kv_connector_metadata
        assert isinstance(step, ElasticStep)
        for launch in step.launches:
            alive = {i: task for i, task in launch.tasks.items() if i not in self.dead}
            requests = self.scheduler.books.requests
            results = {i: self.ranks[i].run(task, requests) for i, task in alive.items()}
            self.open.append((launch, results))
        answer = ElasticOutput(req_ids=[], req_id_to_index={})
        if self.open:
            self.iterations += 1
            launch, results = self.open.pop(self.rng.randrange(len(self.open)))
            ended = Ended(number=launch.number, results=results)
            if self.dead & launch.tasks.keys() or self.rng.random() < failing:
                ended.failure = "on purpose"
            answer.ended.append(ended)
        answer.lost = dict.fromkeys(self.dead - self.told, "on purpose")
        self.told |= self.dead
        for outputs in self.scheduler.update_from_output(output, answer).values():
            for each in outputs.outputs:
                if each.finish_reason is not None:
                    self.finished[each.request_id] = each.finish_reason

    def drain(self) -> None:
        for _ in range(20_000):
            if not self.scheduler.has_requests():
                break
            self.step()
        self.scheduler.reset_prefix_cache()
        # An instance hears of what it may release with its next task.
        for rank, changes in zip(self.ranks, self.scheduler.books.composer._changes, strict=True):
            rank.run(Task(kind=TaskKind.DECODE, ring=(0,), slot_changes=list(changes)), {})
            changes.clear()

    def assert_nothing_left(self) -> None:
        books = self.scheduler.books
        assert not books.requests
        assert not self.scheduler.has_requests()
        assert len(books.driver) == len(books.driver.pool) == len(books.composer) == 0
        assert not any((books.running, books.computing, books.attempts))
        assert len(books.timeline) == 0
        assert books.driver.pool.free_tokens == books.driver.pool.capacity_tokens
        assert not [key for rank in self.ranks for key in rank.slots]
        assert all(rank.slots.num_free == rank.slots.num_slots for rank in self.ranks)


@pytest.mark.parametrize("policy", [DEFAULT_POLICY, RANDOM])
def test_nothing_is_lost_over_ten_thousand_iterations(policy: str) -> None:
    engine = Engine(3, 3 * 8, policy, seed=1)
    rng, alive = random.Random(2), []
    sizes = []
    tracemalloc.start()
    try:
        while engine.iterations < 10_000:
            if len(engine.scheduler.books.requests) < 12 and rng.random() < 0.5:
                alive.append(engine.add(rng.randint(1, 200), rng.randint(1, 30)))
            if alive and rng.random() < 0.03:
                key = alive.pop(rng.randrange(len(alive)))
                engine.scheduler.finish_requests(key, RequestStatus.FINISHED_ABORTED)
            engine.step(failing=0.01)
            if engine.iterations in (3_000, 9_000):
                engine.finished.clear()
                alive = [key for key in alive if key in engine.scheduler.books.requests]
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    engine.drain()
    engine.assert_nothing_left()
    assert sizes[-1] < sizes[0] + 500_000, "memory has grown"
    assert engine.scheduler.books.driver.cache.counts.hits > 10_000


@pytest.mark.parametrize("seed", range(6))
def test_an_instance_that_dies_takes_only_what_was_on_it(seed: int) -> None:
    engine = Engine(3, 3 * 16, RANDOM if seed % 2 else DEFAULT_POLICY, seed)
    keys = {engine.add(20 + 30 * i, 12) for i in range(8)}
    for _ in range(10 + 5 * seed):
        engine.step()
    engine.dead.add(seed % 3)
    engine.drain()
    engine.step()
    assert engine.finished.keys() == keys
    assert set(map(str, engine.finished.values())) == {"length"}
    assert engine.scheduler.books.driver.pool.capacity_tokens[seed % 3] == 0


def test_an_instance_that_dies_while_others_move_its_requests_kv_is_lost_afterwards() -> None:
    engine = Engine(3, 3 * 8, "support.elastic.scripted_plans.OnceOver", 0)
    key = engine.add(90, 4)
    scheduler, books = engine.scheduler, engine.scheduler.books
    while not books.requests[key].num_output_tokens:
        engine.step()
    output = scheduler.schedule()
    ((number, migrating),) = books.running.items()
    assert isinstance(migrating.step, Migrate)
    lost = ElasticOutput(req_ids=[], req_id_to_index={}, lost={0: "on purpose"})
    scheduler.update_from_output(output, lost)
    assert books.driver.pool.capacity_tokens[0] > 0
    moved = ElasticOutput(req_ids=[], req_id_to_index={}, ended=[Ended(number=number)])
    scheduler.update_from_output(output, moved)
    assert books.driver.pool.capacity_tokens[0] == 0
    assert books.requests[key].status is RequestStatus.PREEMPTED


def test_a_request_that_no_longer_fits_ends_with_an_error() -> None:
    engine = Engine(2, 16, DEFAULT_POLICY, 0)
    large, small = engine.add(400, 30), engine.add(20, 30)
    while not engine.scheduler.books.requests[large].num_output_tokens:
        engine.step()
    engine.dead.add(0)
    engine.drain()
    assert str(engine.finished[large]) == "error"
    assert str(engine.finished[small]) == "length"


def test_a_request_whose_iterations_always_fail_ends_with_an_error() -> None:
    engine = Engine(2, 16, DEFAULT_POLICY, 0)
    key = engine.add(20, 30)
    while key not in engine.finished:
        engine.step(failing=1.0)
    assert str(engine.finished[key]) == "error"
    engine.drain()
    engine.assert_nothing_left()


def test_a_request_some_of_whose_iterations_fail_ends_as_usual() -> None:
    """Only failures in a row count."""
    engine = Engine(2, 16, DEFAULT_POLICY, 0)
    key = engine.add(20, 30)
    for turn in range(200):
        engine.step(failing=float(turn % 3 != 0))
    assert str(engine.finished[key]) == "length"
    engine.drain()
    engine.assert_nothing_left()


@pytest.mark.parametrize("kept", [0, 1])
def test_a_prompt_that_fits_only_into_all_instances_is_served(kept: int) -> None:
    """Its KV, and that of its outputs but the last, fills the pool but for ``kept`` tokens."""
    engine = Engine(3, 3 * 8, DEFAULT_POLICY, 0)
    engine.scheduler.books.answers._max_model_len = 10_000
    capacity = sum(engine.scheduler.books.driver.pool.capacity_tokens)
    engine.add(capacity - 4 - kept, 5)
    engine.drain()
    assert list(map(str, engine.finished.values())) == ["length"]
    engine.assert_nothing_left()
