"""Groups of instances that decode together, since requests have KV on several of them."""

from dataclasses import dataclass, field

from seesaw_core.elastic.view import Decoding, View


@dataclass(slots=True, kw_only=True)
class DecodeGroup:
    """Instances that share requests, directly or through others, and those requests."""

    instances: set[int]
    requests: list[Decoding] = field(default_factory=list)


def decode_groups(view: View) -> list[DecodeGroup]:
    """Divide the instances outside of prefills; one that no request links is a group of its own.

    Requests that have KV on other instances too cannot decode and link nothing.
    """
    instances = frozenset(view.instances) - view.prefilling
    group_of = {instance: DecodeGroup(instances={instance}) for instance in sorted(instances)}
    for request in view.decoding:
        first, *others = request.tokens_by_instance
        if others and not instances.issuperset(others):
            continue
        group = group_of.get(first)
        if group is None:
            continue
        for instance in others:
            other = group_of[instance]
            if other is not group:
                group.instances |= other.instances
                group.requests += other.requests
                group_of.update(dict.fromkeys(other.instances, group))
        group.requests.append(request)
    unique = {id(group): group for group in group_of.values()}
    return list(unique.values())
