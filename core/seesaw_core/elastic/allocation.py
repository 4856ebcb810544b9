"""Which prompts are prefilled next, and which instances they get.

Prompts that fit on empty instances go at once. Beyond that, groups that decode must stop for the
prefill, which has to save more than it costs, both in seconds summed over requests:

    saved:  the time that the prompts would wait for an empty instance, or by which more instances
            make their iteration shorter
    cost:   the time of the iteration, for each request that stands still meanwhile

Source: Wu et al., LoongServe (arXiv 2404.09526), sections 5.1 and 5.2, equations 1 to 4.
Deviation: the paper divides each second by a prompt's or an answer's tokens, which lets prompts of
a few thousand tokens wait for minutes; plain seconds keep the mean latency low instead. A prompt
counts with the time that it has waited once that is longer, so that none waits for ever, and
prompts that do not pay yet are passed by others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from seesaw_core.elastic.groups import DecodeGroup, decode_groups
from seesaw_core.elastic.view import Decoding, View, Waiting

# Share of the pool that admission leaves for the outputs of running requests, as vLLM does.
_WATERMARK = 0.01
# Requests that have produced more than the mean go on for a share of what they have produced.
_TAIL = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Prompts to prefill together, on instances of which some may have to finish a step first."""

    prompts: tuple[Waiting, ...] = ()
    instances: frozenset[int] = frozenset()


def allocate(view: View) -> Allocation:
    """Return the next prompts, first come, first served, and their instances."""
    groups = _groups(view)
    prompts = _dispatch(view, groups)
    if not prompts:
        return Allocation()
    return Allocation(prompts=prompts, instances=_instances(view, groups, prompts))


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
    until_empty_s = max(_left(view, r) for r in stopped) * view.costs.decode_step_s
    saved_s = sum(max(until_empty_s, p.waited_s) for p in prompts)
    return saved_s >= seconds * len(stopped)


def _left(view: View, request: Decoding) -> float:
    """Return the outputs that a request is still to produce, as far as one can tell."""
    past = request.num_outputs
    return max(view.mean_outputs - past, _TAIL * past, 1.0)


def _instances(view: View, groups: list[DecodeGroup], prompts: Sequence[Waiting]) -> frozenset[int]:
    """Begin with the empty instances; take groups while that is needed or saves time."""
    chosen = set(view.empty)
    lengths = [prompt.num_tokens for prompt in prompts]
    room = sum(view.free_tokens[i] for i in chosen)
    for group in groups:
        if room >= sum(lengths):
            degree = len(chosen)
            seconds = view.costs.prefill[degree + len(group.instances)].seconds(lengths)
            saved_s = view.costs.prefill[degree].seconds(lengths) - seconds
            if saved_s * len(prompts) < seconds * len(group.requests):
                break
        chosen |= group.instances
        room += sum(view.free_tokens[i] for i in group.instances)
    return frozenset(chosen)
