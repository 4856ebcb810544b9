"""What stays of a request after its end: which tokens, for how long, and for whom."""

import pytest

from seesaw_core.elastic.cache import ContextCache, Cut, Kept
from seesaw_core.elastic.costs import GroupCosts, PrefillCost
from seesaw_core.elastic.driver import ElasticDriver
from seesaw_core.elastic.manager import ElasticPolicy
from seesaw_core.elastic.placement import Placement
from seesaw_core.elastic.view import CachedPrefix, Prefill, Step
from seesaw_core.errors import IntegrityError

BLOCK = 10
COSTS = GroupCosts(
    prefill={d: PrefillCost(alpha_s=0.01, beta_s=1e-3, gamma_s=1e-5) for d in (1, 2)},
    decode_step_s=0.02,
    decode_requests=4,
    migrate_s=1e-6,
)


def lying(*runs: tuple[int, int]) -> Placement:
    """A placement of runs, each an instance and its number of tokens."""
    placement = Placement()
    for instance, num_tokens in runs:
        placement = placement.with_appended(instance, num_tokens)
    return placement


def chained(blocks: str) -> list[str]:
    """The hash of each block, which covers those before it."""
    return [blocks[: n + 1] for n in range(len(blocks))]


def cache_of(*contexts: tuple[str, Placement]) -> ContextCache:
    """Two instances with contexts; each letter is a block."""
    cache = ContextCache(2, BLOCK)
    for blocks, placement in contexts:
        cache.keep(f"request {blocks}", chained(blocks), placement)
    cache.take_changes()
    return cache


def found(cache: ContextCache, blocks: str) -> tuple[int, list[set[int]]]:
    """The tokens of the longest prefix, and where it lies."""
    prefixes = cache.find(chained(blocks), 1_000)
    return (prefixes[0].num_tokens if prefixes else 0), [set(p.holders) for p in prefixes]


def used(cache: ContextCache, blocks: str) -> CachedPrefix:
    return cache.find(chained(blocks), 1_000)[0]


class Served:
    """Requests on one instance or two, whose blocks are letters."""

    def __init__(self, *capacity: int) -> None:
        self.driver = ElasticDriver(ElasticPolicy(), COSTS, capacity, block_tokens=BLOCK)

    def prefill(self, key: str, num_tokens: int, blocks: str) -> Prefill:
        self.driver.arrive(key, num_tokens, 0.0, chained(blocks))
        (prefill,) = self.driver.next_plan(0.0).prefills
        return prefill

    def serve(self, key: str, num_tokens: int, blocks: str) -> Prefill:
        prefill = self.prefill(key, num_tokens, blocks)
        self.driver.end(prefill, [key])
        return prefill


def test_whole_blocks_stay_and_at_least_one_token_of_a_prompt_is_computed() -> None:
    served = Served(1_000)
    assert not served.serve("first", 35, "abc").reused
    assert served.driver.cache.tokens == (30,)
    assert served.serve("shorter", 30, "abc").num_reused("shorter") == 20
    assert served.serve("longer", 31, "abc").num_reused("longer") == 30
    assert served.serve("other", 31, "abx").num_reused("other") == 20
    counts = served.driver.cache.counts
    assert (counts.num_requests, counts.queries, counts.hits) == (4, 127, 70)


def test_a_request_without_hashes_uses_nothing_and_leaves_nothing() -> None:
    served = Served(1_000)
    served.serve("first", 35, "abc")
    assert not served.serve("secret", 35, "").reused
    assert served.driver.cache.tokens == (30,)
    assert served.driver.cache.counts.num_requests == 1


def test_a_context_within_another_is_not_kept_twice() -> None:
    cache = cache_of(("abc", lying((0, 30))), ("ab", lying((1, 20))))
    assert found(cache, "ab") == (20, [{0}])
    cache.keep("longer", chained("abcd"), lying((1, 40)))
    assert cache.tokens == (0, 40)
    kept = Kept(request="longer", key="cache:2", placement=lying((1, 40)))
    assert cache.take_changes() == (Cut(key="cache:1", placement=Placement()), kept)


def test_a_prefix_is_offered_in_each_place_where_it_lies() -> None:
    cache = cache_of(("abc", lying((0, 30))), ("abd", lying((1, 30))), ("abe", lying((1, 30))))
    assert found(cache, "abx") == (20, [{1}, {0}])
    assert found(cache, "abcx") == (30, [{0}])
    assert found(cache, "xab") == (0, [])


def test_what_was_used_longest_ago_gives_way_first_from_its_end_and_by_whole_blocks() -> None:
    cache = cache_of(("abc", lying((0, 30))), ("xyz", lying((0, 30))))
    cache.settle([60, 0], {"again": used(cache, "a")})
    cache.take_changes()
    assert cache.settle([49, 0], {}) == set()
    assert cache.take_changes() == (Cut(key="cache:2", placement=lying((0, 10))),)
    cache.settle([25, 0], {})
    assert (found(cache, "xyz")[0], found(cache, "abc")[0]) == (0, 20)
    assert (cache.counts.num_evicted, cache.counts.evicted_tokens) == (1, 40)


def test_an_instance_that_needs_room_takes_no_more_of_a_context_than_what_lies_there() -> None:
    cache = cache_of(("abcd", lying((0, 20), (1, 20))))
    cache.settle([50, 5], {})
    assert found(cache, "abcd") == (20, [{0}])


def test_a_context_remains_beside_its_copies_if_there_is_room_and_is_taken_over_otherwise() -> None:
    cache = cache_of(("old", lying((0, 30))), ("abcd", lying((0, 30), (1, 10))))
    uses = {"short": used(cache, "a"), "long": used(cache, "abc"), "x": used(cache, "ab")}
    assert cache.settle([70, 10], uses) == set()
    assert cache.settle([45, 10], uses) == set(), "another context gives way first"
    assert found(cache, "old")[0] == 10
    cache.take_changes()
    assert cache.settle([29, 10], uses) == {"long"}
    # The rest on the other instance, which may have no part in the prefill, is given up.
    assert cache.take_changes()[1:] == (Cut(key="cache:2", placement=lying((0, 30))),)
    assert cache.tokens == (0, 0)
    with pytest.raises(IntegrityError, match="not cached"):
        cache.settle([29, 10], uses)


def test_a_lost_instance_leaves_what_came_before_its_tokens() -> None:
    cache = cache_of(("abcd", lying((0, 20), (1, 20))), ("xyz", lying((1, 30))))
    cache.lose(1)
    assert found(cache, "abcd") == (20, [{0}])
    assert found(cache, "xyz") == (0, [])
    assert cache.tokens == (20, 0)


def test_contexts_are_bounded_in_number() -> None:
    cache = ContextCache(1, BLOCK, most_contexts=3)
    for letter in "abcd":
        cache.keep(letter, letter, lying((0, 15)))
    assert (len(cache), cache.num_blocks) == (3, 3)
    assert found(cache, "a") == (0, [])


def test_after_a_reset_nothing_is_used_that_was_computed_before() -> None:
    served = Served(1_000)
    served.serve("ended", 35, "abc")
    running = served.prefill("running", 45, "wxyz")
    served.driver.reset_cache()
    served.driver.end(running, ["running"])
    assert served.driver.cache.tokens == (0,)
    assert not served.serve("new", 45, "wxyz").reused
    assert served.driver.cache.tokens == (40,)


def test_the_kv_of_a_prefill_that_fails_does_not_stay() -> None:
    served = Served(100)
    served.serve("first", 45, "abcd")
    prefill = served.prefill("second", 95, "abcdefghi")
    assert prefill.taken_over == {"second"}
    served.driver.fail(prefill)
    assert served.driver.cache.tokens == (0,)
    assert not served.driver.next_plan(0.0).prefills[0].reused


def test_a_preempted_request_starts_again_from_what_is_left_of_its_kv() -> None:
    served = Served(60)
    for key in ("a", "b"):
        served.driver.arrive(key, 25, 0.0, chained(key + "cdef"))
    while not (plan := served.driver.next_plan(0.0)).preemptions:
        steps: tuple[Step, ...] = (*plan.prefills, *plan.decodes)
        for step in steps:
            served.driver.end(step)
    (prefill,) = served.driver.next_plan(0.0).prefills
    (first,) = prefill.placements
    assert first in {preemption.key for preemption in plan.preemptions}
    assert prefill.num_reused(first) == 30
    counts = served.driver.cache.counts
    assert (counts.again_requests, counts.again_queries, counts.again_hits) == (1, 31, 30)
    assert (counts.num_requests, counts.hits) == (2, 0)
