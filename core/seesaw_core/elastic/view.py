"""What the manager of elastic groups sees, and the steps that it answers with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from seesaw_core.elastic.costs import GroupCosts
from seesaw_core.elastic.placement import Placement


@dataclass(frozen=True, kw_only=True)
class CachedPrefix:
    """The first tokens of the cached context ``source``, where they lie in the pool."""

    source: str
    placement: Placement

    @property
    def num_tokens(self) -> int:
        return self.placement.num_tokens

    @cached_property
    def holders(self) -> frozenset[int]:
        """The instances that hold any of it."""
        return self.placement.holders

    @cached_property
    def tokens_by_instance(self) -> Mapping[int, int]:
        return self.placement.tokens_by_instance()


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A prompt that waits to be prefilled; after a preemption, with the tokens computed so far.

    ``cached`` is the longest prefix of it that is cached, once for each place where that lies. A
    prefix is shorter than the prompt, so that a token is left to compute.
    Units: tokens, seconds.
    """

    key: str
    num_tokens: int
    waited_s: float
    cached: tuple[CachedPrefix, ...] = ()


@dataclass(slots=True, kw_only=True)
class Decoding:
    """A request that decodes, inside an iteration or between two.

    ``tokens_by_instance`` is where its KV lies, that of an iteration under way included;
    ``num_outputs`` counts the tokens that it has produced. The driver keeps both up to date from
    view to view, since a new object for every token would take longer than the plan.
    """

    key: str
    tokens_by_instance: Mapping[int, int]
    num_outputs: int


@dataclass(frozen=True, kw_only=True)
class View:
    """All that the manager may know.

    capacity_tokens, free_tokens: [instances] KV that each can hold, and has room for. Cached
        tokens count as free, since they give way.
    waiting, decoding: in the order in which the requests came.
    prefilling, stepping: instances inside a prefill iteration, which is long, or inside a decode
        iteration or a migration, which are short; the others are idle.
    mean_outputs: tokens that a request has produced on average by its end.
    cached_tokens: [instances] of the free tokens; None without any.
    """

    capacity_tokens: tuple[int, ...]
    free_tokens: tuple[int, ...]
    waiting: tuple[Waiting, ...]
    decoding: tuple[Decoding, ...]
    prefilling: frozenset[int]
    stepping: frozenset[int]
    mean_outputs: float
    costs: GroupCosts
    cached_tokens: tuple[int, ...] | None = None

    def num_cached(self, instance: int) -> int:
        """Return the cached tokens on an instance, which decide between equal ones."""
        return self.cached_tokens[instance] if self.cached_tokens is not None else 0

    @cached_property
    def instances(self) -> range:
        return range(len(self.capacity_tokens))

    @cached_property
    def idle(self) -> frozenset[int]:
        return frozenset(self.instances) - self.prefilling - self.stepping

    @cached_property
    def empty(self) -> frozenset[int]:
        """Idle instances that hold no KV of a request."""
        return frozenset(i for i in self.idle if self.free_tokens[i] == self.capacity_tokens[i])


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """Prefill prompts on a group, each of whose tokens stays where its placement says.

    ``instances`` in the order of the ring. ``reused`` are cached prefixes by request, of which
    nothing is computed: each is copied where it lies, into the first tokens of the placement. Those
    of ``taken_over`` become the request's own instead, and their contexts end; the driver decides
    which.
    """

    instances: tuple[int, ...]
    placements: Mapping[str, Placement]
    reused: Mapping[str, CachedPrefix] = field(default_factory=dict)
    taken_over: frozenset[str] = frozenset()

    def num_reused(self, key: str) -> int:
        """Return how many tokens of a prompt are not computed."""
        return self.reused[key].num_tokens if key in self.reused else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """Run one decode iteration on a group; each request's new token stays on its master."""

    instances: tuple[int, ...]
    masters: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrate:
    """Move the KV that requests have on one instance to another. Both are busy meanwhile.

    ``num_tokens`` are moved in all. Nothing else in elastic serving moves KV.
    """

    source: int
    target: int
    keys: tuple[str, ...]
    num_tokens: int

    @property
    def instances(self) -> tuple[int, int]:
        return self.source, self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Preempt:
    """Give up a request's KV; it waits again, first in the queue."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to start now. Groups are disjoint and idle."""

    preemptions: tuple[Preempt, ...] = ()
    migrations: tuple[Migrate, ...] = ()
    prefills: tuple[Prefill, ...] = ()
    decodes: tuple[Decode, ...] = ()


Step = Prefill | Decode | Migrate
