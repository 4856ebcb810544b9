"""A request is in one step at a time, wherever its KV lies."""

from seesaw_core.elastic.costs import GroupCosts, PrefillCost
from seesaw_core.elastic.manager import ElasticPolicy
from seesaw_core.elastic.view import Decoding, View, Waiting

COSTS = GroupCosts(
    prefill={
        degree: PrefillCost(alpha_s=0.01, beta_s=1e-3 / degree, gamma_s=1e-5 / degree)
        for degree in range(1, 5)
    },
    decode_step_s=0.02,
    decode_requests=4,
    migrate_s=1e-6,
)


def view(stepping: frozenset[int]) -> View:
    """A request on instances 0 and 1, another on 2, and a prompt for which 1 must be emptied."""
    return View(
        capacity_tokens=(1000,) * 4,
        free_tokens=(500, 900, 800, 1000),
        waiting=(Waiting(key="long", num_tokens=1900, waited_s=0.0),),
        decoding=(
            Decoding(key="wide", tokens_by_instance={0: 500, 1: 100}, num_outputs=9),
            Decoding(key="narrow", tokens_by_instance={2: 200}, num_outputs=9),
        ),
        prefilling=frozenset(),
        stepping=stepping,
        mean_outputs=10.0,
        costs=COSTS,
    )


def test_kv_is_not_moved_while_a_step_has_another_part_of_its_request() -> None:
    (migration,) = ElasticPolicy().next_step(view(frozenset())).migrations
    assert (migration.source, migration.target, migration.keys) == (1, 2, ("wide",))
    assert not ElasticPolicy().next_step(view(frozenset({0}))).migrations
