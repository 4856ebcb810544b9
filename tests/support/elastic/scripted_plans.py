"""Policies of elastic groups that do one thing over and over."""

from dataclasses import dataclass

from seesaw_core.elastic.placement import retain
from seesaw_core.elastic.view import Decode, Migrate, Plan, Prefill, View


@dataclass(slots=True)
class DownAndUp:
    """Prefills on all instances, KV on one; then decodes on all, with another one as master.

    So every prefill scales down and every first token of a decode scales up.
    Implements :class:`seesaw_core.policies.Policy`.
    """

    turn: int = 0

    def next_step(self, view: View) -> Plan:
        everyone = tuple(view.instances)
        if view.idle != set(everyone):
            return Plan()
        if view.decoding:
            masters = {}
            for request in view.decoding:
                (holder, *_) = request.tokens_by_instance
                masters[request.key] = (holder + 1) % len(everyone)
            return Plan(decodes=(Decode(instances=everyone, masters=masters),))
        if not view.waiting:
            return Plan()
        self.turn += 1
        keeper, prompt = self.turn % len(everyone), view.waiting[0]
        (placement,) = retain([prompt.num_tokens], {keeper: view.free_tokens[keeper]})
        return Plan(prefills=(Prefill(instances=everyone, placements={prompt.key: placement}),))


@dataclass(slots=True)
class OneThenTheRest:
    """Prefills the first prompt and lets it rest while a second, over all instances, runs.

    Implements :class:`seesaw_core.policies.Policy`.
    """

    def next_step(self, view: View) -> Plan:
        everyone = tuple(view.instances)
        if view.idle != set(everyone):
            return Plan()
        if view.waiting:
            prompt = view.waiting[0]
            room = {i: view.free_tokens[i] for i in everyone}
            if sum(room.values()) < prompt.num_tokens:
                return Plan()
            (placement,) = retain([prompt.num_tokens], room)
            return Plan(prefills=(Prefill(instances=everyone, placements={prompt.key: placement}),))
        if not view.decoding:
            return Plan()
        last = view.decoding[-1]
        free = [i for i in everyone if view.free_tokens[i]]
        return Plan(decodes=(Decode(instances=everyone, masters={last.key: free[0]}),))


@dataclass(slots=True)
class OnceOver:
    """Spreads a prompt over all instances, then moves what the second holds to the third.

    Implements :class:`seesaw_core.policies.Policy`.
    """

    has_moved: bool = False

    def next_step(self, view: View) -> Plan:
        everyone = tuple(view.instances)
        if view.idle != set(everyone):
            return Plan()
        if view.waiting:
            prompt = view.waiting[0]
            room = dict.fromkeys(everyone, -(-prompt.num_tokens // len(everyone)))
            (placement,) = retain([prompt.num_tokens], room)
            return Plan(prefills=(Prefill(instances=everyone, placements={prompt.key: placement}),))
        if not view.decoding:
            return Plan()
        (request,) = view.decoding
        if not self.has_moved:
            self.has_moved = True
            moved = request.tokens_by_instance[1]
            keys = (request.key,)
            return Plan(migrations=(Migrate(source=1, target=2, keys=keys, num_tokens=moved),))
        return Plan(decodes=(Decode(instances=everyone, masters={request.key: 0}),))
