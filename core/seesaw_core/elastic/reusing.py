"""Which prompts are prefilled where their cached prefixes lie.

A prefix does not move, so a group that uses it contains its holders. That is worth while if it
costs less than to compute the prefix anew, in seconds summed over requests as everywhere:

    on the holders:  the time of the tokens left, for the prompt and for each request that stands
                     still meanwhile
    anew:            the time of all tokens on the instances that are empty; without enough of them
                     the prompt would wait as long as the holders decode, or as it has waited

A prompt whose holders are in a prefill waits for them, at most as long as it saves by them. Prompts
that are left are for the allocation, which knows nothing of prefixes; if one of them gets a group
with its holders all the same, it uses them.

Whoever is due is passed by nobody: a prompt that has waited for longer than it would cost to stop
all others for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from seesaw_core.elastic.allocation import is_due, until_empty_s, usable_room
from seesaw_core.elastic.groups import DecodeGroup
from seesaw_core.elastic.scaling import scale_down
from seesaw_core.elastic.view import CachedPrefix, Decoding, Prefill, View, Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """Prefills that use cached prefixes, and what is left for the allocation."""

    prefills: tuple[Prefill, ...]
    view: View
    groups: list[DecodeGroup]


def reuse(view: View, groups: list[DecodeGroup]) -> Reuse:
    """Return prefills on the holders of prefixes, those whose instances are all idle.

    Instances that still have to finish a step for one are not left to others.
    """
    if not any(prompt.cached for prompt in view.waiting):
        return Reuse(prefills=(), view=view, groups=groups)
    search = _Search(view, groups)
    left = search.run()
    taken = frozenset(i for batch in search.batches for i in batch.instances)
    prefills = tuple(
        scale_down(view, batch.prompts, sorted(batch.instances))
        for batch in search.batches
        if batch.instances <= view.idle
    )
    return Reuse(
        prefills=prefills,
        view=replace(view, waiting=tuple(left), prefilling=view.prefilling | taken),
        groups=[group for group in groups if taken.isdisjoint(group.instances)],
    )


class _Fate(Enum):
    GOES = auto()
    WAITS = auto()
    IS_LEFT = auto()


@dataclass(slots=True, kw_only=True)
class _Batch:
    """Prompts on whole groups, whose ``requests`` stand still meanwhile.

    ``free_tokens`` are by instance, less the prefixes there; ``room_tokens`` less all the prompts.
    ``num_tokens`` and ``squares`` are what the prompts' cost depends on.
    """

    instances: frozenset[int]
    requests: Sequence[Decoding]
    free_tokens: dict[int, int]
    room_tokens: int
    prompts: list[Waiting] = field(default_factory=list)
    num_tokens: int = 0
    squares: int = 0

    def has_room(self, prompt: Waiting, prefix: CachedPrefix) -> bool:
        held = prefix.tokens_by_instance.items()
        fits = all(self.free_tokens[i] >= num_tokens for i, num_tokens in held)
        return fits and self.room_tokens >= prompt.num_tokens

    def add(self, prompt: Waiting, prefix: CachedPrefix) -> None:
        tokens, squares = _computed(prompt, prefix)
        self.prompts.append(prompt)
        self.num_tokens += tokens
        self.squares += squares
        self.room_tokens -= prompt.num_tokens
        for instance, num_tokens in prefix.tokens_by_instance.items():
            self.free_tokens[instance] -= num_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """A batch with one prompt more, and what the prompt and all others spend on it."""

    batch: _Batch
    own_s: float
    others_s: float

    @property
    def total_s(self) -> float:
        return self.own_s + self.others_s


class _Search:
    """Goes through the queue once. ``batches`` are disjoint."""

    def __init__(self, view: View, groups: Sequence[DecodeGroup]) -> None:
        self.batches: list[_Batch] = []
        self._view = view
        self._groups = groups
        self._usable = frozenset(view.instances) - view.prefilling
        self._empty = view.empty  # those that no batch has
        self._left_tokens = 0  # of prompts that may take empty instances first

    def run(self) -> list[Waiting]:
        """Return the prompts that are left for the allocation."""
        left: list[Waiting] = []
        waiting = self._view.waiting
        room = usable_room(self._view, self._usable)
        for number, prompt in enumerate(waiting):
            if prompt.num_tokens > room:
                if is_due(self._view, len(self._usable), prompt):
                    return [*left, *waiting[number:]]
                left.append(prompt)
                continue
            fate = self._fate(prompt)
            if fate is _Fate.WAITS:
                continue
            room -= prompt.num_tokens
            if fate is _Fate.IS_LEFT:
                left.append(prompt)
                self._left_tokens += prompt.num_tokens
                if is_due(self._view, len(self._usable), prompt):
                    return [*left, *waiting[number + 1 :]]
        return left

    def _fate(self, prompt: Waiting) -> _Fate:
        is_busy = False
        for prefix in prompt.cached:
            choices = self._choices(prompt, prefix)
            is_busy |= not choices
            choices = [c for c in choices if c.batch.has_room(prompt, prefix)]
            if choices and self._pays(prompt, best := min(choices, key=lambda c: c.total_s)):
                self._add(prompt, prefix, best.batch)
                return _Fate.GOES
        if is_busy and prompt.waited_s < self._saved_s(prompt):
            return _Fate.WAITS
        return _Fate.IS_LEFT

    def _choices(self, prompt: Waiting, prefix: CachedPrefix) -> list[_Choice]:
        """Return the batches that a prompt may join or begin; none while others use the holders."""
        if not prefix.holders <= self._usable:
            return []
        for batch in self.batches:
            if not batch.instances.isdisjoint(prefix.holders):
                tokens, _ = _computed(prompt, prefix)
                cost = self._view.costs.prefill[len(batch.instances)]
                if not prefix.holders <= batch.instances:
                    return []
                if batch.num_tokens + tokens > cost.tipping_tokens:
                    return []
                return [self._choice(prompt, prefix, batch)]
        groups = [g for g in self._groups if not prefix.holders.isdisjoint(g.instances)]
        instances = frozenset(i for group in groups for i in group.instances)
        requests = [request for group in groups for request in group.requests]
        choices = [self._choice(prompt, prefix, self._new_batch(instances, requests))]
        if not self._empty <= instances:
            wide = self._new_batch(instances | self._empty, requests)
            others = len(self._view.waiting) - 1  # they may want the empty instances
            choices.append(self._choice(prompt, prefix, wide, others))
        return choices

    def _choice(
        self, prompt: Waiting, prefix: CachedPrefix, batch: _Batch, num_others: int = 0
    ) -> _Choice:
        cost = self._view.costs.prefill[len(batch.instances)]
        tokens, squares = _computed(prompt, prefix)
        seconds = cost.of_sums(batch.num_tokens + tokens, batch.squares + squares)
        before_s = cost.of_sums(batch.num_tokens, batch.squares) if batch.prompts else 0.0
        num_others += len(batch.prompts) + len(batch.requests)
        return _Choice(batch=batch, own_s=seconds, others_s=(seconds - before_s) * num_others)

    def _new_batch(self, instances: frozenset[int], requests: Sequence[Decoding]) -> _Batch:
        free = {i: self._view.free_tokens[i] for i in instances}
        return _Batch(
            instances=instances,
            requests=requests,
            free_tokens=free,
            room_tokens=sum(free.values()),
        )

    def _add(self, prompt: Waiting, prefix: CachedPrefix, batch: _Batch) -> None:
        if not batch.prompts:
            self.batches.append(batch)
            self._empty -= batch.instances
        batch.add(prompt, prefix)

    def _pays(self, prompt: Waiting, choice: _Choice) -> bool:
        """Whether all lose less by a choice than if the prefix were computed anew."""
        anew_s = self._anew_s(prompt)
        if anew_s is not None:
            return choice.total_s <= anew_s
        waits_s = max(until_empty_s(self._view, choice.batch.requests), prompt.waited_s)
        return waits_s >= choice.others_s

    def _anew_s(self, prompt: Waiting) -> float | None:
        """Return the seconds of a prompt on the empty instances; None without room."""
        room = sum(self._view.free_tokens[i] for i in self._empty) - self._left_tokens
        if prompt.num_tokens > room:
            return None
        return self._view.costs.prefill[len(self._empty)].seconds([prompt.num_tokens])

    def _saved_s(self, prompt: Waiting) -> float:
        """Return what a prompt saves by its prefix once its holders are free."""
        prefix = prompt.cached[0]
        cost = self._view.costs.prefill[len(prefix.holders)]
        anew_s = self._anew_s(prompt)
        if anew_s is None:
            anew_s = cost.seconds([prompt.num_tokens])
        return anew_s - cost.of_sums(*_computed(prompt, prefix))


def _computed(prompt: Waiting, prefix: CachedPrefix) -> tuple[int, int]:
    """Return the sums on which the cost of what is not cached depends."""
    return prompt.num_tokens - prefix.num_tokens, prompt.num_tokens**2 - prefix.num_tokens**2
