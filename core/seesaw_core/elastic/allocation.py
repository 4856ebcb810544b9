"""Which prompts are prefilled next, and which instances they get.

Prompts that fit beside the decoding requests on empty instances go at once. Beyond that, taking
instances from decoding requests must gain more than it costs, both in seconds a token:

    gain: the time that prompts would wait, or the time that their iteration becomes shorter,
          each divided by the prompt's tokens
    cost: the time of the iteration, divided by each decoding request's outputs so far

Source: Wu et al., LoongServe (arXiv 2404.09526), sections 5.1 and 5.2, equations 1 to 4.
Deviation: a prompt's gain grows with the time that it has waited, so that none waits for ever.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from seesaw_core.elastic.groups import decode_groups
from seesaw_core.elastic.view import Decoding, View, Waiting

# Free tokens that admission leaves for the outputs of running requests, as vLLM does.
_WATERMARK = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Prompts to prefill together, on instances of which some may have to finish a step first."""

    prompts: tuple[Waiting, ...] = ()
    instances: frozenset[int] = frozenset()


def allocate(view: View) -> Allocation:
    """Return the next prompts, first come, first served, and their instances."""
    prompts = _dispatch(view)
    if not prompts:
        return Allocation()
    return Allocation(prompts=prompts, instances=_instances(view, prompts))


def _dispatch(view: View) -> tuple[Waiting, ...]:
    """Take prompts from the queue while there is room, and while a batch gains by them."""
    usable = frozenset(view.instances) - view.prefilling
    room = sum(view.free_tokens[i] for i in usable) - _WATERMARK * sum(view.capacity_tokens)
    room_apart = sum(view.free_tokens[i] for i in view.empty)
    taken: list[Waiting] = []
    total = 0
    for prompt in view.waiting:
        total += prompt.num_tokens
        if total > room and (taken or total > room + _WATERMARK * sum(view.capacity_tokens)):
            break
        if taken and total > view.costs.prefill[len(usable)].tipping_tokens:
            break
        if total > room_apart and not _pays_to_interrupt(view, [*taken, prompt], len(usable)):
            break
        taken.append(prompt)
    return tuple(taken)


def _pays_to_interrupt(view: View, prompts: list[Waiting], degree: int) -> bool:
    """Whether prompts gain more by going now than all decoding requests lose meanwhile."""
    if not view.decoding:
        return True
    seconds = view.costs.prefill[degree].seconds(p.num_tokens for p in prompts)
    left = max((view.mean_outputs - r.num_outputs for r in view.decoding), default=0.0)
    expected_s = max(left, 1.0) * view.costs.decode_step_s
    gain = sum(max(expected_s, p.waited_s) / p.num_tokens for p in prompts)
    return gain >= seconds * _latency_weight(view.decoding)


def _latency_weight(requests: Iterable[Decoding]) -> float:
    """By how much a second's delay raises the sum of the requests' seconds an output."""
    return sum(1.0 / max(request.num_outputs, 1) for request in requests)


def _instances(view: View, prompts: tuple[Waiting, ...]) -> frozenset[int]:
    """Begin with the empty instances; take decoding groups while that is needed or pays."""
    chosen = set(view.empty)
    lengths = [prompt.num_tokens for prompt in prompts]
    weight = sum(1.0 / length for length in lengths)
    room = sum(view.free_tokens[i] for i in chosen)
    groups = decode_groups(view, frozenset(view.instances) - view.prefilling - chosen)
    groups.sort(key=lambda group: sum(view.free_tokens[i] for i in group.instances), reverse=True)
    for group in groups:
        if room >= sum(lengths):
            degree = len(chosen)
            longer_s = view.costs.prefill[degree + len(group.instances)].seconds(lengths)
            faster_s = view.costs.prefill[degree].seconds(lengths) - longer_s
            if faster_s * weight < longer_s * _latency_weight(group.requests):
                continue
        chosen |= group.instances
        room += sum(view.free_tokens[i] for i in group.instances)
    return frozenset(chosen)
