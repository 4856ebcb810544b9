"""A policy with which the benchmark decides on how many instances a prompt is prefilled.

The engine core plans in a process of its own, so what is wanted travels in a request's name.
Requests whose names say nothing are planned by the worker's own policy.
"""

import re
from dataclasses import dataclass

from seesaw_core.elastic.groups import decode_groups
from seesaw_core.elastic.manager import ElasticPolicy
from seesaw_core.elastic.placement import Placement
from seesaw_core.elastic.view import Decode, Plan, Prefill, View, Waiting

_NAME = re.compile(r"on(\d+)keep(\d+)-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Prefill on the first ``degree`` instances, and leave the KV on the first ``keep``."""

    degree: int = 1
    keep: int = 1

    @property
    def name(self) -> str:
        """What the names of such requests begin with, before a dash and a number."""
        return f"on{self.degree}keep{self.keep}"

    @classmethod
    def of(cls, key: str) -> "Wish | None":
        found = _NAME.match(key)
        return found and cls(degree=int(found[1]), keep=int(found[2]))

    def placed(self, num_tokens: int) -> Placement:
        """Return equal runs of a prompt on the instances that keep it."""
        placement = Placement()
        for instance in range(self.keep):
            stop = num_tokens * (instance + 1) // self.keep
            if stop > placement.num_tokens:
                placement = placement.with_appended(instance, stop - placement.num_tokens)
        return placement


@dataclass(frozen=True, slots=True)
class ScriptedPolicy:
    """Implements ``Policy[View, Plan]``."""

    def next_step(self, view: View) -> Plan:
        keys = [*(each.key for each in view.waiting), *(each.key for each in view.decoding)]
        if not keys or Wish.of(keys[0]) is None:
            return ElasticPolicy().next_step(view)
        if view.waiting:
            return _prefill(view, view.waiting)
        return _decode(view)


def _prefill(view: View, waiting: tuple[Waiting, ...]) -> Plan:
    """Prefill all prompts with the first one's wish, once its instances are idle."""
    wish = Wish.of(waiting[0].key)
    assert wish is not None
    alike = [each for each in waiting if Wish.of(each.key) == wish]
    instances = tuple(range(wish.degree))
    if not view.idle.issuperset(instances):
        return Plan()
    placements = {each.key: wish.placed(each.num_tokens) for each in alike}
    return Plan(prefills=(Prefill(instances=instances, placements=placements),))


def _decode(view: View) -> Plan:
    """Decode each group where its KV lies; requests take its instances as masters in turn."""
    decodes = []
    for group in decode_groups(view):
        instances = tuple(sorted(group.instances))
        if group.requests and group.instances <= view.idle:
            masters = {
                request.key: instances[number % len(instances)]
                for number, request in enumerate(group.requests)
            }
            decodes.append(Decode(instances=instances, masters=masters))
    return Plan(decodes=tuple(decodes))
