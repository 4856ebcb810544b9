"""When it pays to empty an instance, by moving its KV to another, for prompts that wait.

Instead of stopping the requests of an instance for a whole prefill, they can decode elsewhere.
A migration is the only thing in elastic serving that moves KV, so it must pay in seconds summed
over requests, like all else here.

Source: Wu et al., LoongServe (arXiv 2404.09526), section 5.2, equations 3 and 4.
"""

from collections.abc import Sequence

from seesaw_core.elastic.view import Migrate, View, Waiting


def emptying(view: View, instances: frozenset[int]) -> Migrate | None:
    """Return the cheapest migration that leaves an instance empty; None if none has room.

    The instance with the least KV is emptied, into the one with the most room of the others that
    hold KV already. Both are among ``instances``.
    """
    used = {i: view.capacity_tokens[i] - view.free_tokens[i] for i in sorted(instances)}
    holding = [i for i, num_tokens in used.items() if num_tokens]
    if len(holding) < 2:
        return None
    source = min(holding, key=lambda i: used[i])
    target = max((i for i in holding if i != source), key=lambda i: view.free_tokens[i])
    if used[source] > view.free_tokens[target]:
        return None
    requests = [r for r in view.decoding if source in r.tokens_by_instance]
    kept = sum(1 for r in view.decoding if target in r.tokens_by_instance)
    outputs = int(view.mean_outputs) * (len(requests) + kept)  # what they will usually need
    moved = sum(r.tokens_by_instance[source] for r in requests)
    if moved != used[source] or moved + outputs > view.free_tokens[target]:
        return None
    return Migrate(
        source=source, target=target, keys=tuple(r.key for r in requests), num_tokens=moved
    )


def cost_s(view: View, migration: Migrate) -> float:
    """Return the seconds of a migration, summed over the requests that stand still meanwhile."""
    seconds = migration.num_tokens * view.costs.migrate_s
    stopped = sum(
        1
        for request in view.decoding
        if not request.tokens_by_instance.keys().isdisjoint(migration.instances)
    )
    return seconds * stopped


def saved_s(view: View, prompts: Sequence[Waiting], degree: int) -> float:
    """Return the seconds that prompts save in sum by one instance more than ``degree``."""
    lengths = [prompt.num_tokens for prompt in prompts]
    costs = view.costs.prefill
    return (costs[degree].seconds(lengths) - costs[degree + 1].seconds(lengths)) * len(prompts)
