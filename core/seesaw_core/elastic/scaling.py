"""The degrees of running requests: down after their prefill, up while they decode.

After a prefill, KV stays on as few instances of the group as have room for it. A group that
decodes gets one master more for every ``decode_requests`` requests, and an empty instance more
when its own are full. Neither moves KV.

Source: Wu et al., LoongServe (arXiv 2404.09526), section 5.4.
"""

from collections.abc import Sequence
from math import ceil

from seesaw_core.elastic.groups import DecodeGroup
from seesaw_core.elastic.placement import retain
from seesaw_core.elastic.view import CachedPrefix, Decode, Decoding, Prefill, View, Waiting
from seesaw_core.errors import BufferFullError


def scale_down(view: View, prompts: Sequence[Waiting], instances: Sequence[int]) -> Prefill:
    """Return the prefill of a batch whose KV ends on as few instances as possible.

    Cached prefixes within the group stay where they are. Instances that hold some of them and then
    the fullest ones are filled first, so that the others are empty afterwards. Each leaves room for
    what its prompts will usually produce, as long as the group has that much.
    Raises: BufferFullError if the group has too little room for the prompts.
    """
    free = {i: view.free_tokens[i] for i in instances}
    reused = _reused(prompts, free)
    held = {i for prefix in reused.values() for i in prefix.holders}
    left = [
        p.num_tokens - reused[p.key].num_tokens if p.key in reused else p.num_tokens
        for p in prompts
    ]
    order = sorted(
        instances, key=lambda i: (i not in held, view.free_tokens[i], view.num_cached(i), i)
    )
    mean = sum(prompt.num_tokens for prompt in prompts) / len(prompts)
    share = mean / (mean + view.mean_outputs)
    try:
        placements = retain(left, {i: int(free[i] * share) for i in order})
    except BufferFullError:
        placements = retain(left, {i: free[i] for i in order})
    computed = dict(zip((prompt.key for prompt in prompts), placements, strict=True))
    whole = {key: prefix.placement.followed_by(computed[key]) for key, prefix in reused.items()}
    return Prefill(instances=tuple(instances), placements=computed | whole, reused=reused)


def _reused(prompts: Sequence[Waiting], free: dict[int, int]) -> dict[str, CachedPrefix]:
    """Return the prefixes that lie on a group and that it has room for, and take that room."""
    reused: dict[str, CachedPrefix] = {}
    for prompt in prompts:
        for prefix in prompt.cached:
            held = prefix.tokens_by_instance
            if all(free.get(i, 0) >= num_tokens for i, num_tokens in held.items()):
                for i, num_tokens in held.items():
                    free[i] -= num_tokens
                reused[prompt.key] = prefix
                break
    return reused


def scale_up(view: View, group: DecodeGroup, spare: set[int]) -> Decode | list[Decoding]:
    """Return the next iteration of a group, or the requests that it has no room for.

    Takes instances that the group needs out of ``spare``, which hold no KV.
    """
    free = {i: view.free_tokens[i] for i in sorted(group.instances)}
    wanted = len(group.requests)
    while spare and (sum(free.values()) < wanted or _is_bound(view, group, len(free))):
        added = min(spare)
        spare.discard(added)
        free[added] = view.free_tokens[added]
    lacking = wanted - sum(free.values())
    if lacking > 0:
        return group.requests[-lacking:]
    return Decode(instances=tuple(free), masters=_masters(view, group.requests, free))


def _is_bound(view: View, group: DecodeGroup, degree: int) -> bool:
    """Whether a group has more requests than its masters handle without being slower."""
    return len(group.requests) > degree * view.costs.decode_requests


def _masters(view: View, requests: Sequence[Decoding], free: dict[int, int]) -> dict[str, int]:
    """Give each request a master with a free slot: the instance that holds most of its KV,
    unless that has its share of requests already."""
    if len(free) == 1:
        (only,) = free
        return {request.key: only for request in requests}
    share = max(view.costs.decode_requests, ceil(len(requests) / len(free)))
    left = {instance: min(room, share) for instance, room in free.items()}
    missing = len(requests) - sum(left.values())
    for instance, room in free.items():  # where memory is uneven, those with room take more
        more = max(0, min(missing, room - left[instance]))
        left[instance] += more
        missing -= more
    masters = {}
    for request in requests:
        held = request.tokens_by_instance
        master = max((i for i in left if left[i]), key=lambda i: (held.get(i, 0), left[i], -i))
        left[master] -= 1
        masters[request.key] = master
    return masters
