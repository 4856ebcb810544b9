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

from collections.abc import Sequence
from dataclasses import dataclass

from seesaw_core.elastic.groups import DecodeGroup, decode_groups
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


def allocate(view: View) -> Allocation:
    """Return the next prompts, first come, first served, and their instances."""
    if not view.waiting:
        return Allocation()
    groups = _groups(view)
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
    until_empty_s = _until_empty_s(view, [r for group in groups for r in group.requests])
    pays = max(until_empty_s, first.waited_s) >= cost
    return migration if pays and first.num_tokens <= room else None


def _groups(view: View) -> list[DecodeGroup]:
    """Return the groups that could stop decoding, those with the fewest requests first."""
    groups = decode_groups(view, frozenset(view.instances) - view.prefilling - view.empty)
    groups.sort(key=lambda group: (len(group.requests), min(group.instances)))
    return groups


def _dispatch(view: View, groups: list[DecodeGroup]) -> tuple[Waiting, ...]:
    """Take prompts from the queue while there is room, and while the batch gains by them."""
    usable = frozenset(view.instances) - view.prefilling
    if not usable:
        return ()
    room = sum(view.free_tokens[i] for i in usable)
    if view.decoding:
        room -= int(_WATERMARK * sum(view.capacity_tokens))
    tipping_tokens = view.costs.prefill[len(usable)].tipping_tokens
    taken: list[Waiting] = []
    total = 0
    for prompt in view.waiting:
        total += prompt.num_tokens
        if total > room or (taken and total > tipping_tokens):
            break
        if _pays(view, groups, [*taken, prompt]):
            taken.append(prompt)
        else:
            total -= prompt.num_tokens
    return tuple(taken)


def _pays(view: View, groups: list[DecodeGroup], prompts: Sequence[Waiting]) -> bool:
    """Whether prompts save more by going now than the requests lose whose decoding they stop."""
    lacking = sum(p.num_tokens for p in prompts) - sum(view.free_tokens[i] for i in view.empty)
    degree = len(view.empty)
    stopped: list[Decoding] = []
    for group in groups:
        if lacking <= 0:
            break
        lacking -= sum(view.free_tokens[i] for i in group.instances)
        degree += len(group.instances)
        stopped += group.requests
    if not stopped:
        return True
    seconds = view.costs.prefill[degree].seconds(p.num_tokens for p in prompts)
    until_empty_s = _until_empty_s(view, stopped)
    return sum(max(until_empty_s, p.waited_s) for p in prompts) >= seconds * len(stopped)


def _until_empty_s(view: View, requests: Sequence[Decoding]) -> float:
    """Return how long the last of the requests is still to decode, as far as one can tell."""

    def left(past: int) -> float:
        return max(view.mean_outputs - past, _TAIL * past, 1.0)

    return max((left(r.num_outputs) for r in requests), default=0.0) * view.costs.decode_step_s


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
