"""Which prompts go where their prefixes lie, which are computed anew, and which wait."""

from dataclasses import replace

import pytest

from seesaw_core.elastic.costs import GroupCosts, PrefillCost
from seesaw_core.elastic.manager import ElasticPolicy
from seesaw_core.elastic.placement import Placement, TokenRun
from seesaw_core.elastic.view import CachedPrefix, Decoding, Prefill, View, Waiting

COSTS = GroupCosts(
    prefill={
        degree: PrefillCost(alpha_s=0.01, beta_s=1e-3 / degree, gamma_s=1e-7 / degree)
        for degree in range(1, 5)
    },
    decode_step_s=0.02,
    decode_requests=4,
    migrate_s=1e-3,
)
IDLE = View(
    capacity_tokens=(10_000,) * 4,
    free_tokens=(10_000,) * 4,
    waiting=(),
    decoding=(),
    prefilling=frozenset(),
    stepping=frozenset(),
    mean_outputs=10.0,
    costs=COSTS,
)


def prefix(num_tokens: int, instance: int, source: str = "cache:1") -> CachedPrefix:
    run = TokenRun(instance=instance, start=0, stop=num_tokens)
    return CachedPrefix(source=source, placement=Placement((run,)))


def prompt(key: str, num_tokens: int, *cached: CachedPrefix, waited_s: float = 0.0) -> Waiting:
    return Waiting(key=key, num_tokens=num_tokens, waited_s=waited_s, cached=cached)


def decoding(instance: int, number: int) -> View:
    """So many requests decode on one instance; the others are empty."""
    requests = tuple(
        Decoding(key=f"{instance}-{n}", tokens_by_instance={instance: 100}, num_outputs=1)
        for n in range(number)
    )
    free = tuple(10_000 - 100 * number * (i == instance) for i in range(4))
    return replace(IDLE, decoding=requests, free_tokens=free)


def prefills(view: View, *waiting: Waiting) -> tuple[Prefill, ...]:
    return ElasticPolicy().next_step(replace(view, waiting=waiting)).prefills


def where(prefill: Prefill) -> tuple[set[str], tuple[int, ...], dict[str, int]]:
    reused = {key: prefix.num_tokens for key, prefix in prefill.reused.items()}
    return set(prefill.placements), prefill.instances, reused


def test_a_prompt_goes_where_its_prefix_lies_and_others_are_left_alone() -> None:
    found = prefills(IDLE, prompt("a", 1_000, prefix(950, 3)), prompt("b", 300), prompt("c", 300))
    assert where(found[0]) == ({"a"}, (3,), {"a": 950})
    assert {i for other in found[1:] for i in other.instances} <= {0, 1, 2}
    assert any("b" in other.placements for other in found[1:])


def test_the_tokens_left_stay_beside_the_prefix() -> None:
    (prefill,) = prefills(IDLE, prompt("a", 1_000, prefix(200, 3)))
    assert set(prefill.instances) == {0, 1, 2, 3}, "nobody else wants the empty instances"
    assert prefill.placements["a"].runs == (TokenRun(instance=3, start=0, stop=1_000),)


def test_a_prefix_is_computed_anew_if_that_costs_less_than_to_stop_those_who_decode() -> None:
    few, many = decoding(3, 1), decoding(3, 40)
    wanted = prompt("a", 1_000, prefix(700, 3)), prompt("b", 300)
    assert any(p.reused for p in prefills(few, prompt("a", 1_000, prefix(950, 3)), wanted[1]))
    assert not any(p.reused for p in prefills(many, *wanted))


def test_a_prompt_whose_holder_is_busy_waits_as_long_as_it_saves_by_that() -> None:
    busy = replace(IDLE, prefilling=frozenset({3}))
    cached = prefix(900, 3)
    assert not prefills(busy, prompt("a", 1_000, cached))
    (anew,) = prefills(busy, prompt("a", 1_000, cached, waited_s=1.0))
    assert where(anew)[2] == {}
    elsewhere = prefix(900, 2, source="cache:2")
    (reusing,) = prefills(busy, prompt("a", 1_000, cached, elsewhere))
    assert reusing.reused == {"a": elsewhere}


def test_prompts_that_share_a_holder_are_computed_together() -> None:
    waiting = [prompt(str(n), 1_000, prefix(995, 1)) for n in range(3)]
    (together,) = prefills(IDLE, *waiting, prompt("long", 9_000, waited_s=0.0))[:1]
    assert where(together) == ({"0", "1", "2"}, (1,), {"0": 995, "1": 995, "2": 995})


@pytest.mark.parametrize(
    ("num_tokens", "other"),
    [
        (29_000, prompt("other", 1_000, prefix(990, 3))),
        (31_000, prompt("other", 1_000, prefix(990, 3))),
        (31_000, prompt("other", 1_000)),
    ],
    ids=["with room", "without room", "without room, nothing cached"],
)
def test_nobody_passes_a_prompt_that_has_waited_for_longer_than_all_others_would(
    num_tokens: int, other: Waiting
) -> None:
    full = decoding(0, 90)
    young = prompt("long", num_tokens)
    assert any("other" in p.placements for p in prefills(full, young, other))
    due = replace(young, waited_s=10_000.0)
    assert not any("other" in p.placements for p in prefills(full, due, other))
