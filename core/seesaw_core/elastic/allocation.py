"""Which prompts are prefilled next, and which instances they get.

Prompts that fit on empty instances go at once. Beyond that, groups that decode must stop for the
prefill, which has to save more than it costs, both in seconds summed over requests:

    saved:  the time that the prompts would wait for an empty instance, or by which more instances
            make their iteration shorter
    cost:   the time of the iteration, for each request that stands still meanwhile

Where moving an instance's requests elsewhere costs less than it saves, it is emptied first.

Source: Wu et al., LoongServe (arXiv 2404.09526), sections 5.1 and 5.2, equations 1 to 4.
Deviation: the paper divides each second by a prompt's or an answer's tokens, which lets prompts of
a few thousand tokens wait for minutes; plain seconds keep the mean latency low instead. A prompt
counts with the time that it has waited once that is longer, so that none waits for ever, and
prompts that do not pay yet are passed by others.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from seesaw_core.elastic.groups import DecodeGroup
from seesaw_core.elastic.migration import cost_s, emptying, saved_s
from seesaw_core.elastic.view import Decoding, Migrate, View, Waiting

# Share of the pool that admission leaves for the outputs of running requests, as vLLM does.
_WATERMARK = 0.01
# Requests that have produced more than the mean go on for a share of what they have produced.
_TAIL = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Prompts to prefill together on ``instances``, or a migration that comes before that.

    Some of the instances may have to finish a step first; none of them begins another meanwhile.
    """

    prompts: tuple[Waiting, ...] = ()
    instances: frozenset[int] = frozenset()
    migration: Migrate | None = None


def allocate(view: View, decode_groups: Iterable[DecodeGroup]) -> Allocation:
    """Return the next prompts, first come, first served, and their instances."""
    if not view.waiting:
        return Allocation()
    groups = _stoppable(view, decode_groups)
    prompts = _dispatch(view, groups)
    instances = _instances(view, groups, prompts) if prompts else view.empty
    migration = _migration(view, groups, prompts, instances)
    if migration is not None:
        return Allocation(instances=instances.union(migration.instances), migration=migration)
    return Allocation(prompts=prompts, instances=instances if prompts else frozenset())


def _migration(
    view: View,
    groups: list[DecodeGroup],
    prompts: Sequence[Waiting],
    instances: frozenset[int],
) -> Migrate | None:
    """Return the migration that empties one instance more for the prompts, if that pays.

    Without prompts that may go, it is for the first that waits.
    """
    others = frozenset(view.instances) - view.prefilling - instances
    migration = emptying(view, others)
    if migration is None:
        return None
    cost = cost_s(view, migration)
    if prompts:
        waits_s = migration.num_tokens * view.costs.migrate_s * len(prompts)
        return migration if saved_s(view, prompts, len(instances)) >= cost + waits_s else None
    first = view.waiting[0]
    room = sum(view.free_tokens[i] for i in instances) + view.capacity_tokens[migration.source]
    requests = [r for group in groups for r in group.requests]
    pays = max(until_empty_s(view, requests), first.waited_s) >= cost
    return migration if pays and first.num_tokens <= room else None


def _stoppable(view: View, decode_groups: Iterable[DecodeGroup]) -> list[DecodeGroup]:
    """Return the groups that could stop decoding, those with the fewest requests first."""
    groups = [group for group in decode_groups if view.empty.isdisjoint(group.instances)]
    groups.sort(key=lambda group: (len(group.requests), min(group.instances)))
    return groups


def _dispatch(view: View, groups: list[DecodeGroup]) -> tuple[Waiting, ...]:
    """Take prompts from the queue while there is room, and while the batch gains by them.

    A prompt for which there is no room is passed by others until it is due.
    """
    usable = frozenset(view.instances) - view.prefilling
    if not usable:
        return ()
    room = usable_room(view, usable)
    tipping_tokens = view.costs.prefill[len(usable)].tipping_tokens
    stops = _stops(view, groups)
    batch = _Batch()
    for prompt in view.waiting:
        total = batch.num_tokens + prompt.num_tokens
        if batch.prompts and total > tipping_tokens:
            break
        if total > room:
            if is_due(view, len(usable), prompt):
                break
            continue
        batch.add(prompt)
        if not _pays(view, stops, batch):
            batch.drop_last()
    return tuple(batch.prompts)


def is_due(view: View, degree: int, prompt: Waiting) -> bool:
    """Whether nobody may pass a prompt any more, as it has waited for longer than it would cost to
    stop all others for it, on so many instances."""
    seconds = view.costs.prefill[degree].seconds([prompt.num_tokens])
    return prompt.waited_s >= seconds * max(1, len(view.decoding))


def usable_room(view: View, usable: Collection[int]) -> int:
    """Return the tokens of new prompts for which instances have room."""
    room = sum(view.free_tokens[i] for i in usable)
    if view.decoding:
        room -= int(_WATERMARK * sum(view.capacity_tokens))
    return room


class _Batch:
    """Prompts with the sums that their cost depends on."""

    def __init__(self) -> None:
        self.prompts: list[Waiting] = []
        self.num_tokens = 0
        self.squares = 0

    def add(self, prompt: Waiting) -> None:
        self.prompts.append(prompt)
        self.num_tokens += prompt.num_tokens
        self.squares += prompt.num_tokens**2

    def drop_last(self) -> None:
        prompt = self.prompts.pop()
        self.num_tokens -= prompt.num_tokens
        self.squares -= prompt.num_tokens**2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    """What it takes to stop the first groups: room and degree with the empty instances, and the
    requests, the last of which is still to decode for ``until_empty_s``."""

    free_tokens: int
    degree: int
    num_requests: int
    until_empty_s: float


def _stops(view: View, groups: Sequence[DecodeGroup]) -> list[_Stop]:
    """Return what it takes to stop none of the groups, the first, the first two, and so on."""
    stops = [
        _Stop(
            free_tokens=sum(view.free_tokens[i] for i in view.empty),
            degree=len(view.empty),
            num_requests=0,
            until_empty_s=0.0,
        )
    ]
    for group in groups:
        last = stops[-1]
        stops.append(
            _Stop(
                free_tokens=last.free_tokens + sum(view.free_tokens[i] for i in group.instances),
                degree=last.degree + len(group.instances),
                num_requests=last.num_requests + len(group.requests),
                until_empty_s=max(last.until_empty_s, until_empty_s(view, group.requests)),
            )
        )
    return stops


def _pays(view: View, stops: Sequence[_Stop], batch: _Batch) -> bool:
    """Whether prompts save more by going now than the requests lose whose decoding they stop."""
    enough = (stop for stop in stops if stop.free_tokens >= batch.num_tokens)
    stop = next(enough, stops[-1])
    if not stop.num_requests:
        return True
    seconds = view.costs.prefill[stop.degree].of_sums(batch.num_tokens, batch.squares)
    saved_s = sum(max(stop.until_empty_s, p.waited_s) for p in batch.prompts)
    return saved_s >= seconds * stop.num_requests


def until_empty_s(view: View, requests: Sequence[Decoding]) -> float:
    """Return how long the last of the requests is still to decode, as far as one can tell.

    The estimate falls and then rises with the outputs so far, so that the last one is the request
    with the fewest or the one with the most.
    """
    if not requests:
        return 0.0
    outputs = [request.num_outputs for request in requests]
    left = max(view.mean_outputs - min(outputs), _TAIL * max(outputs), 1.0)
    return left * view.costs.decode_step_s


def _instances(view: View, groups: list[DecodeGroup], prompts: Sequence[Waiting]) -> frozenset[int]:
    """Begin with the empty instances; take groups while that is needed or saves time."""
    chosen = set(view.empty)
    lengths = [prompt.num_tokens for prompt in prompts]
    room = sum(view.free_tokens[i] for i in chosen)
    for group in groups:
        if room >= sum(lengths):
            degree = len(chosen)
            seconds = view.costs.prefill[degree + len(group.instances)].seconds(lengths)
            shorter_s = view.costs.prefill[degree].seconds(lengths) - seconds
            if shorter_s * len(prompts) < seconds * len(group.requests):
                break
        chosen |= group.instances
        room += sum(view.free_tokens[i] for i in group.instances)
    return frozenset(chosen)
