"""The driver of elastic groups: it keeps the manager's books, once, for worker and simulator.

Whoever runs instances reports what happens, asks for the next plan and carries it out. The driver
knows no clock, no engine and no request beyond its name.
"""

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from seesaw_core.elastic.cache import ContextCache
from seesaw_core.elastic.costs import GroupCosts
from seesaw_core.elastic.pool import TokenPool
from seesaw_core.elastic.requests import Request
from seesaw_core.elastic.view import (
    CachedPrefix,
    Decode,
    Decoding,
    Migrate,
    Plan,
    Prefill,
    Step,
    View,
    Waiting,
)
from seesaw_core.errors import IntegrityError
from seesaw_core.policies import Policy

# Outputs of a request before any has ended; chat datasets have means of 150 to 350.
_FIRST_GUESS_OUTPUTS = 256
# Prompts that the manager looks at; with more in the queue the first of them fill every iteration.
_MAX_SEEN = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What a migration moves of one request.

    Units: tokens; ``num_kept`` is what the target held of the request before.
    """

    key: str
    num_moved: int
    num_kept: int


class ElasticDriver:
    """The books of a pool of instances, on which at most ``max_requests`` run at a time.

    With ``block_tokens`` the KV of requests that have ended stays as long as there is room, and
    prompts that begin alike use it.
    Requires: events in the order in which they happen, at times that never go back.
    """

    def __init__(
        self,
        policy: Policy[View, Plan],
        costs: GroupCosts,
        capacity_tokens: Sequence[int],
        *,
        max_requests: int | None = None,
        block_tokens: int = 0,
    ) -> None:
        self.pool = TokenPool(capacity_tokens)
        self.cache = ContextCache(len(capacity_tokens), block_tokens)
        self.costs = costs
        self.num_preemptions = 0
        self.num_restarts = 0
        self.moves: tuple[Move, ...] = ()
        self._policy = policy
        self._max_requests = max_requests
        self._waiting: dict[str, Request] = {}
        self._computing: dict[str, Request] = {}
        self._resting: dict[str, Request] = {}
        self._prefilling: set[int] = set()
        self._stepping: set[int] = set()
        self._decoding: tuple[Decoding, ...] | None = None  # None once requests came or went
        self._num_ended, self._outputs_ended = 1, _FIRST_GUESS_OUTPUTS

    def __len__(self) -> int:
        """Requests that wait or run."""
        return len(self._waiting) + len(self._computing) + len(self._resting)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def waiting_tokens(self) -> int:
        return sum(request.num_tokens for request in self._waiting.values())

    def may_fit(self, num_tokens: int) -> bool:
        """Whether a request that grows to so many tokens could ever finish."""
        return 0 < num_tokens <= sum(self.pool.capacity_tokens)

    def arrive(
        self, key: str, num_tokens: int, now_s: float, block_hashes: Sequence[Hashable] = ()
    ) -> None:
        """A request has come.

        block_hashes: those of its whole blocks, each of which covers all tokens before; the caller
        may add to them as tokens come. Without any it uses nothing from the cache and leaves
        nothing there.
        Requires: :meth:`may_fit`, and a key that is not in use.
        """
        if key in self._waiting or key in self._computing or key in self._resting:
            raise IntegrityError(f"request {key!r} is known already")
        self._waiting[key] = Request(
            key=key, prompt_tokens=num_tokens, arrived_s=now_s, block_hashes=block_hashes
        )

    def view(self, now_s: float) -> View:
        """All that the manager may know, as of now."""
        num_seen = _MAX_SEEN
        if self._max_requests is not None:
            num_running = len(self._resting) + len(self._computing)
            num_seen = max(0, min(num_seen, self._max_requests - num_running))
        if self._decoding is None:
            self._decoding = self._all_decoding()
        return View(
            capacity_tokens=self.pool.capacity_tokens,
            free_tokens=self.pool.free_tokens,
            waiting=tuple(
                Waiting(
                    key=r.key,
                    num_tokens=r.num_tokens,
                    waited_s=now_s - r.arrived_s,
                    cached=self._cached(r) if len(self.cache) else (),
                )
                for r in islice(self._waiting.values(), num_seen)
            ),
            decoding=self._decoding,
            prefilling=frozenset(self._prefilling),
            stepping=frozenset(self._stepping),
            mean_outputs=self._outputs_ended / self._num_ended,
            costs=self.costs,
            cached_tokens=self.cache.tokens if len(self.cache) else None,
        )

    def _cached(self, request: Request) -> tuple[CachedPrefix, ...]:
        state = (self.cache.version, request.num_tokens)
        if request.searched != state:
            request.searched = state
            request.cached = self.cache.find(request.block_hashes, request.num_tokens - 1)
        return request.cached

    def _all_decoding(self) -> tuple[Decoding, ...]:
        running = [*self._resting.values(), *self._computing.values()]
        running.sort(key=lambda r: r.arrived_s)
        return tuple(r.decoding or self._seen(r) for r in running if r.num_outputs)

    def _seen(self, request: Request) -> Decoding:
        request.decoding = Decoding(
            key=request.key,
            tokens_by_instance=self.pool.tokens_by_instance(request.key),
            num_outputs=request.num_outputs,
        )
        return request.decoding

    def _forget_seen(self, request: Request) -> None:
        """Let the manager see a request afresh: more than its tokens has changed."""
        request.decoding = None
        self._decoding = None

    def next_plan(self, now_s: float) -> Plan:
        """Choose what to start now, and enter it into the books.

        ``moves`` lists afterwards what the plan's migrations move of each request. What the cache
        has changed comes before the plan.
        """
        self.moves = ()
        if len(self._prefilling) + len(self._stepping) == len(self.pool.capacity_tokens):
            return Plan()
        plan = self._policy.next_step(self.view(now_s))
        uses = {key: prefix for prefill in plan.prefills for key, prefix in prefill.reused.items()}
        for preemption in plan.preemptions:
            # What comes into the cache may displace what is in use.
            self._preempt(preemption.key, stays=not uses)
        for migration in plan.migrations:
            self._begin(migration.instances, self._stepping)
            for key in migration.keys:
                self.moves += (self._move(migration, key),)
                request = self._computing[key] = self._resting.pop(key)
                self._forget_seen(request)
        for prefill in plan.prefills:
            self._begin(prefill.instances, self._prefilling)
            for key, placement in prefill.placements.items():
                self.pool.retain(key, placement)
                request = self._computing[key] = self._waiting.pop(key)
                if request.num_outputs:
                    self._forget_seen(request)
                self._record_use(prefill, request)
        for decode in plan.decodes:
            self._begin(decode.instances, self._stepping)
            for key, master in decode.masters.items():
                self.pool.append(key, master)
                self._computing[key] = self._resting.pop(key)
        return self._with_room(plan, uses)

    def _record_use(self, prefill: Prefill, request: Request) -> None:
        if request.block_hashes:
            self.cache.counts.record(
                request.num_tokens,
                prefill.num_reused(request.key),
                is_again=request.num_outputs > 0,
            )

    def _with_room(self, plan: Plan, uses: dict[str, CachedPrefix]) -> Plan:
        """Let cached contexts give way to a plan, and decide which of them are taken over."""
        if not len(self.cache):
            return plan
        taken = self.cache.settle(self.pool.free_tokens, uses)
        if not taken:
            return plan
        prefills = (
            replace(prefill, taken_over=frozenset(taken.intersection(prefill.reused)))
            for prefill in plan.prefills
        )
        return replace(plan, prefills=tuple(prefills))

    def end(self, step: Step, finished: Collection[str] = ()) -> None:
        """An iteration has ended, with one more token for each request, or a migration has.

        finished: the requests that are done by it.
        """
        busy = self._prefilling if isinstance(step, Prefill) else self._stepping
        busy.difference_update(step.instances)
        num_outputs = 0 if isinstance(step, Migrate) else 1
        for key in _keys(step):
            request = self._computing.pop(key)
            request.num_outputs += num_outputs
            if request.decoding is None:
                self._decoding = None  # it decodes from now on
            else:
                request.decoding.num_outputs = request.num_outputs
            if request.is_gone or key in finished:
                self._leave_kv(request)
            else:
                self._resting[key] = request

    def fail(self, step: Step) -> None:
        """An iteration or a migration has failed and produced nothing.

        Its prompts wait again, as do requests that it was to move, since some of their KV may have
        gone. Its decoding requests are as they were before it: those whose KV is lost wait again
        once :meth:`lose` says so.
        """
        busy = self._prefilling if isinstance(step, Prefill) else self._stepping
        busy.difference_update(step.instances)
        for key in reversed(tuple(_keys(step))):
            request = self._computing.pop(key)
            self._forget_seen(request)
            if request.is_gone:
                self._leave(request)
            elif isinstance(step, Decode):
                self.pool.retract(key)
                self._resting[key] = request
            else:
                self._restart(request)

    def lose(self, instance: int) -> tuple[str, ...]:
        """An instance is gone, with all KV on it. Return the requests that start again.

        Nothing is planned on it any more. Requires: no iteration runs on it, and no migration moves
        other KV of a request that has some there.
        """
        self._begin((instance,), self._prefilling)
        lost = [
            request
            for key, request in self._resting.items()
            if instance in self.pool.placement(key).tokens_by_instance()
        ]
        for request in sorted(lost, key=lambda r: r.arrived_s, reverse=True):
            del self._resting[request.key]
            self._restart(request)
        self.cache.lose(instance)
        self.pool.close(instance)
        return tuple(request.key for request in lost)

    def abort(self, key: str) -> None:
        """A request's client has gone. Its room is free once no iteration computes it."""
        self._waiting.pop(key, None)
        if key in self._computing:
            self._computing[key].is_gone = True
        elif key in self._resting:
            self._leave_kv(self._resting.pop(key))

    def reset_cache(self) -> None:
        """Forget all KV but that of running requests, which leave nothing behind either."""
        self.cache.clear()
        for request in (*self._computing.values(), *self._resting.values()):
            request.may_stay = False

    def _begin(self, instances: Sequence[int], busy: set[int]) -> None:
        if not (self._prefilling | self._stepping).isdisjoint(instances):
            raise IntegrityError(f"of the instances {sorted(instances)} some are busy")
        busy.update(instances)

    def _move(self, migration: Migrate, key: str) -> Move:
        held = self.pool.placement(key).tokens_by_instance()
        num_kept = held.get(migration.target, 0)
        if num_kept:  # its slots there are no longer in the order of its tokens
            self._resting[key].may_stay = False
        return Move(
            key=key,
            num_moved=self.pool.migrate(key, migration.source, migration.target),
            num_kept=num_kept,
        )

    def _preempt(self, key: str, *, stays: bool) -> None:
        request = self._resting.pop(key)
        placement, stays = self.pool.placement(key), stays and request.may_stay
        self._wait_again(request)
        self.num_preemptions += 1
        if stays:
            self.cache.keep(key, request.block_hashes, placement)

    def _restart(self, request: Request) -> None:
        self._wait_again(request)
        self.num_restarts += 1

    def _wait_again(self, request: Request) -> None:
        self.pool.release(request.key)
        self._forget_seen(request)
        request.may_stay = True
        self._waiting = {request.key: request, **self._waiting}

    def _leave_kv(self, request: Request) -> None:
        """A request ends between iterations, so that all of its KV has been computed."""
        placement = self.pool.placement(request.key)
        self._leave(request)
        if request.may_stay:
            self.cache.keep(request.key, request.block_hashes, placement)

    def _leave(self, request: Request) -> None:
        self.pool.release(request.key)
        self._forget_seen(request)
        self._num_ended += 1
        self._outputs_ended += request.num_outputs


def _keys(step: Step) -> Iterable[str]:
    match step:
        case Prefill():
            return step.placements
        case Decode():
            return step.masters
        case Migrate():
            return step.keys
