"""A pool of elastic instances, as in LoongServe: groups form anew for every iteration.

The manager and its driver in :mod:`seesaw_core.elastic` are the worker's own; here its plans are
carried out on the virtual clock.
"""

from collections import Counter
from collections.abc import Iterable
from functools import partial

from seesaw_core.elastic.driver import ElasticDriver
from seesaw_core.elastic.view import Decode, Prefill, Step
from seesaw_core.errors import CapacityError
from seesaw_core.planner.group_costs import GroupStepCosts
from seesaw_core.routing.pools import Pool
from seesaw_sim.clock import Clock
from seesaw_sim.replicas import Journal
from seesaw_sim.sequences import Sequence


class ElasticServer:
    """Instances under one manager. Call order: :meth:`take` at any time."""

    def __init__(
        self,
        clock: Clock,
        driver: ElasticDriver,
        costs: GroupStepCosts,
        *,
        number: int,
        journal: Journal,
    ) -> None:
        self.driver = driver
        self.seconds_by_degree: dict[int, float] = {}
        self.num_generated = 0
        self.peak_tokens = 0
        self.only_prefills = False
        self._clock = clock
        self._costs = costs
        self._number = number
        self._journal = journal
        self._sequences: dict[str, Sequence] = {}
        self._prefilling_tokens = 0

    def __len__(self) -> int:
        """Requests that have not ended."""
        return len(self._sequences)

    def pool(self) -> Pool:
        """The pool as a worker reports it to its router."""
        return Pool(
            num_instances=len(self.driver.pool.capacity_tokens),
            capacity_tokens=self.capacity_tokens,
            free_tokens=sum(self.driver.pool.free_tokens),
            queued_tokens=self.driver.waiting_tokens,
            prefilling_tokens=self._prefilling_tokens,
        )

    @property
    def capacity_tokens(self) -> int:
        return sum(self.driver.pool.capacity_tokens)

    @property
    def used_tokens(self) -> int:
        return self.capacity_tokens - sum(self.driver.pool.free_tokens)

    @property
    def num_preemptions(self) -> int:
        return self.driver.num_preemptions

    def take(self, sequence: Sequence) -> None:
        """Raises: CapacityError if the request never fits the pool."""
        wanted = sequence.prompt_tokens + sequence.output_left
        if not self.driver.may_fit(wanted):
            raise CapacityError(
                f"a request of {wanted:,} tokens does not fit into the pool of "
                f"{self.capacity_tokens:,}"
            )
        self._sequences[sequence.name] = sequence
        self.driver.arrive(
            sequence.name,
            sequence.prompt_tokens,
            self._clock.now_s,
            sequence.request.block_hashes,
        )
        self._clock.settle(self._drive)

    def _drive(self) -> None:
        plan = self.driver.next_plan(self._clock.now_s)
        self.driver.cache.take_changes()  # no memory has to hear of them
        for migration in plan.migrations:
            self._run(migration, "migrate", self._costs.migrate_s(migration.num_tokens))
        for prefill in plan.prefills:
            self._prefill(prefill)
        for decode in plan.decodes:
            self._decode(decode)
        self.peak_tokens = max(self.peak_tokens, self.used_tokens)
        if plan.preemptions:
            self._clock.settle(self._drive)

    def _prefill(self, prefill: Prefill) -> None:
        lengths = [placement.num_tokens for placement in prefill.placements.values()]
        cached = [prefix.num_tokens for prefix in prefill.reused.values()]
        self._prefilling_tokens += _num_computed(prefill)
        seconds = self._costs.prefill_s(lengths, len(prefill.instances), cached)
        self._run(prefill, "prefill", seconds)

    def _decode(self, decode: Decode) -> None:
        """All KV on the instances is read, since all requests that have some there decode."""
        pool = self.driver.pool
        masters = Counter(decode.masters.values())
        context = [pool.capacity_tokens[i] - pool.free_tokens[i] for i in decode.instances]
        self._run(decode, "decode", self._costs.decode_s(list(masters.values()), context))

    def _run(self, step: Step, what: str, seconds: float) -> None:
        began_s = self._clock.now_s
        degree = len(step.instances)
        self.seconds_by_degree[degree] = self.seconds_by_degree.get(degree, 0.0) + seconds
        for instance in step.instances:
            self._journal.note(self._number + instance, what, began_s, began_s + seconds)
        self._clock.at(began_s + seconds, partial(self._end, step))

    def _end(self, step: Step) -> None:
        finished: list[str] = []
        match step:
            case Prefill():
                self._prefilling_tokens -= _num_computed(step)
                finished = self._give_tokens(step.placements)
            case Decode():
                finished = self._give_tokens(step.masters)
        self.driver.end(step, finished)
        self._clock.settle(self._drive)

    def _give_tokens(self, keys: Iterable[str]) -> list[str]:
        """Give each sequence its next token. Returns those that are done."""
        finished = []
        for key in keys:
            sequence = self._sequences[key]
            self.num_generated += 1
            sequence.output_left -= 1
            if sequence.first_token_s is None:
                sequence.first_token_s = self._clock.now_s
            if not sequence.output_left:
                sequence.finish(self._clock.now_s)
                finished.append(key)
                del self._sequences[key]
        return finished


def _num_computed(prefill: Prefill) -> int:
    return sum(p.num_tokens - prefill.num_reused(key) for key, p in prefill.placements.items())
