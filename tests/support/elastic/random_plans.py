"""A policy of elastic groups that draws legal plans at random: whatever it does, tokens stay."""

import os
import random

from seesaw_core.elastic.placement import Placement
from seesaw_core.elastic.view import (
    CachedPrefix,
    Decode,
    Decoding,
    Migrate,
    Plan,
    Preempt,
    Prefill,
    View,
    Waiting,
)

SEED_VARIABLE = "SEESAW_TEST_PLANS"


class RandomPlans:
    """Implements :class:`seesaw_core.policies.Policy`."""

    def __init__(self) -> None:
        self._rng = random.Random(int(os.environ.get(SEED_VARIABLE, "0")))

    def next_step(self, view: View) -> Plan:
        return _Draw(view, self._rng).plan()


class _Draw:
    """One plan. ``free`` and ``held`` are as the steps drawn so far leave them."""

    def __init__(self, view: View, rng: random.Random) -> None:
        self.view, self.rng = view, rng
        self.idle = set(view.idle)
        self.free = list(view.free_tokens)
        self.held = {
            request.key: dict(request.tokens_by_instance)
            for request in view.decoding
            if view.idle.issuperset(request.tokens_by_instance)
        }

    def plan(self) -> Plan:
        if len(self.idle) < len(self.view.instances) and self.rng.random() < 0.8:
            return Plan()  # until more instances are idle, so that larger groups form
        preemptions = self.preempt()
        migrations = self.migrate()
        prefills = self.prefill()
        decodes, more = self.decode()
        return Plan(
            preemptions=(*preemptions, *more),
            migrations=migrations,
            prefills=prefills,
            decodes=decodes,
        )

    def preempt(self) -> tuple[Preempt, ...]:
        if not self.held or self.rng.random() > 0.02:
            return ()
        return (self.give_up(self.rng.choice(sorted(self.held))),)

    def give_up(self, key: str) -> Preempt:
        for instance, tokens in self.held.pop(key).items():
            self.free[instance] += tokens
        return Preempt(key=key)

    def migrate(self) -> tuple[Migrate, ...]:
        if not self.held or self.rng.random() > 0.15:
            return ()
        source = self.rng.choice(sorted({i for held in self.held.values() for i in held}))
        keys = [key for key, held in self.held.items() if source in held]
        keys = self.rng.sample(keys, self.rng.randint(1, len(keys)))
        tokens = sum(self.held[key][source] for key in keys)
        targets = [i for i in self.idle if i != source and self.free[i] >= tokens]
        if not targets:
            return ()
        target = self.rng.choice(sorted(targets))
        for key in keys:
            del self.held[key]
        self.idle -= {source, target}
        return (Migrate(source=source, target=target, keys=tuple(keys), num_tokens=tokens),)

    def prefill(self) -> tuple[Prefill, ...]:
        if not self.view.waiting or not self.idle or self.rng.random() > 0.6:
            return ()
        group = self.rng.sample(sorted(self.idle), self.rng.randint(1, len(self.idle)))
        placements: dict[str, Placement] = {}
        reused: dict[str, CachedPrefix] = {}
        for prompt in self.view.waiting[: self.rng.randint(1, 4)]:
            if prompt.num_tokens > sum(self.free[i] for i in group):
                break
            prefix = self.reuse(prompt, group)
            if prefix is not None:
                reused[prompt.key] = prefix
            begun = Placement() if prefix is None else prefix.placement
            placements[prompt.key] = self.place(prompt.num_tokens, group, begun)
        if not placements:
            return ()
        self.idle -= set(group)
        return (Prefill(instances=tuple(group), placements=placements, reused=reused),)

    def reuse(self, prompt: Waiting, group: list[int]) -> CachedPrefix | None:
        for prefix in prompt.cached:
            held = prefix.tokens_by_instance
            if (
                all(i in group and self.free[i] >= held[i] for i in held)
                and self.rng.random() < 0.8
            ):
                for i in held:
                    self.free[i] -= held[i]
                return prefix
        return None

    def place(self, num_tokens: int, group: list[int], placement: Placement) -> Placement:
        while (left := num_tokens - placement.num_tokens) > 0:
            instance = self.rng.choice([i for i in group if self.free[i]])
            tokens = self.rng.randint(1, min(left, self.free[instance]))
            self.free[instance] -= tokens
            placement = placement.with_appended(instance, tokens)
        return placement

    def decode(self) -> tuple[tuple[Decode, ...], list[Preempt]]:
        groups: list[tuple[set[int], list[str]]] = []
        for request in self.view.decoding:
            if request.key in self.held and self.idle.issuperset(self.held[request.key]):
                groups = _joined(groups, request, set(self.held[request.key]))
        decodes, preemptions = [], []
        spare = self.idle - {i for instances, _ in groups for i in instances}
        for instances, keys in groups:
            if self.rng.random() < 0.1:
                continue
            for extra in sorted(spare):
                if self.rng.random() < 0.5:
                    spare.discard(extra)
                    instances.add(extra)
            masters = {}
            for key in keys:
                choices = sorted(i for i in instances if self.free[i])
                if not choices:
                    preemptions.append(self.give_up(key))
                    continue
                masters[key] = self.rng.choice(choices)
                self.free[masters[key]] -= 1
            if masters:
                ring = self.rng.sample(sorted(instances), len(instances))
                decodes.append(Decode(instances=tuple(ring), masters=masters))
        return tuple(decodes), preemptions


def _joined(
    groups: list[tuple[set[int], list[str]]], request: Decoding, instances: set[int]
) -> list[tuple[set[int], list[str]]]:
    """Add a request to the groups; those that it links become one."""
    keys = [request.key]
    apart = []
    for others, theirs in groups:
        if others & instances:
            instances, keys = instances | others, [*theirs, *keys]
        else:
            apart.append((others, theirs))
    return [*apart, (instances, keys)]
