"""One pool over all instances: retaining and appending move nothing, migrations are counted."""

import pytest

from seesaw_core.elastic.placement import Placement, TokenRun, retain
from seesaw_core.elastic.pool import TokenPool
from seesaw_core.errors import BufferFullError, IntegrityError


def test_a_thousand_scale_downs_and_scale_ups_move_no_token() -> None:
    pool = TokenPool([4000, 4000, 4000])
    for number in range(1000):
        key = str(number)
        (placement,) = retain([100], {number % 3: 100})  # three instances computed it, one keeps it
        pool.retain(key, placement)
        for master in range(3):
            pool.append(key, master)
        assert pool.placement(key).tokens_by_instance().keys() == {0, 1, 2}
        pool.release(key)
    assert pool.migrated_tokens == 0
    assert pool.free_tokens == (4000, 4000, 4000)


def test_a_migration_counts_each_token_that_it_moves() -> None:
    pool = TokenPool([100, 100])
    pool.retain("a", retain([30], {0: 20, 1: 10})[0])
    assert pool.migrate("a", 0, 1) == 20
    assert pool.migrated_tokens == 20
    assert pool.free_tokens == (100, 70)
    assert pool.placement("a").runs == (TokenRun(instance=1, start=0, stop=30),)


def test_a_prompt_that_fits_only_into_all_free_slots_together_is_placed() -> None:
    pool = TokenPool([5, 3, 4])
    pool.retain("other", retain([2], {0: 5})[0])
    (placement,) = retain([10], dict(enumerate(pool.free_tokens)))
    pool.retain("a", placement)
    assert pool.free_tokens == (0, 0, 0)
    with pytest.raises(BufferFullError, match="0 free tokens"):
        pool.append("a", 0)
    with pytest.raises(BufferFullError, match="11 tokens do not fit into the 10 free tokens"):
        retain([11], {0: 3, 1: 3, 2: 4})


def test_a_refused_placement_takes_nothing() -> None:
    pool = TokenPool([10, 2])
    placement = Placement(
        (TokenRun(instance=0, start=0, stop=5), TokenRun(instance=1, start=5, stop=8))
    )
    with pytest.raises(BufferFullError, match="instance 1 has 2 free tokens"):
        pool.retain("a", placement)
    assert pool.free_tokens == (10, 2)


@pytest.mark.parametrize(
    "runs",
    [
        (TokenRun(instance=0, start=1, stop=2),),
        (TokenRun(instance=0, start=0, stop=2), TokenRun(instance=1, start=1, stop=3)),
        (TokenRun(instance=0, start=0, stop=0),),
    ],
    ids=["a token is missing", "a token lies twice", "a run is empty"],
)
def test_each_token_lies_in_one_place(runs: tuple[TokenRun, ...]) -> None:
    with pytest.raises(IntegrityError):
        Placement(runs)
