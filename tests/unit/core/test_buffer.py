"""Blocks and the ledger over them: what is refused, and when blocks come free."""

import pytest

from seesaw_core.errors import BufferFullError, IntegrityError
from seesaw_core.resharding.blocks import BlockAllocator, Run, num_blocks_for, pair_runs
from seesaw_core.resharding.ledger import EntryState, Ledger, LedgerTotals


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(num_blocks=4, block_size=16)


@pytest.mark.parametrize(
    ("source", "target", "runs"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param([3], [7], [(3, 7, 1)], id="one block"),
        pytest.param([3, 4, 5], [0, 1, 2], [(3, 0, 3)], id="one straight run"),
        pytest.param([3, 4, 5], [0, 1, 9], [(3, 0, 2), (5, 9, 1)], id="a jump at the target"),
        pytest.param([3, 8, 9], [0, 1, 2], [(3, 0, 1), (8, 1, 2)], id="a jump at the source"),
        pytest.param([2, 1], [2, 1], [(2, 2, 1), (1, 1, 1)], id="falling is not straight"),
    ],
)
def test_pairs_become_as_few_runs_as_possible(
    source: list[int], target: list[int], runs: list[tuple[int, int, int]]
) -> None:
    assert pair_runs(source, target) == [
        Run(source=s, target=t, length=length) for s, t, length in runs
    ]


def test_runs_need_as_many_sources_as_targets() -> None:
    with pytest.raises(IntegrityError, match="2 source blocks for 1"):
        pair_runs([1, 2], [1])


@pytest.mark.parametrize(("num_tokens", "blocks"), [(0, 0), (1, 1), (16, 1), (17, 2)])
def test_tokens_take_whole_blocks(num_tokens: int, blocks: int) -> None:
    assert num_blocks_for(num_tokens, 16) == blocks


def test_the_allocator_prefers_a_gap_that_holds_everything() -> None:
    allocator = BlockAllocator(8)
    taken = allocator.take(8)
    allocator.give_back([taken[1], taken[4], taken[5], taken[6]])
    assert allocator.take(2) == (4, 5)
    assert allocator.take(2) == (1, 6)
    with pytest.raises(BufferFullError, match="1 KV-buffer blocks wanted, 0 free"):
        allocator.take(1)


@pytest.mark.parametrize("block", [2, -1, 4])
def test_a_block_that_is_not_out_cannot_come_back(block: int) -> None:
    allocator = BlockAllocator(4)
    allocator.take(2)
    with pytest.raises(IntegrityError, match=f"block {block} was freed twice or never taken"):
        allocator.give_back([block])


def test_an_entry_goes_from_reserved_to_stored_to_loading_to_free(ledger: Ledger) -> None:
    seen = []
    ledger.reserve("a", 17, readers=1)
    for step in (ledger.store, ledger.load, ledger.release):
        seen.append((ledger.stored_tokens, ledger.totals()))
        step("a")
    seen.append((ledger.stored_tokens, ledger.totals()))

    def totals(**blocks: int) -> LedgerTotals:
        return LedgerTotals(**{"capacity": 4, "reserved": 0, "stored": 0, "loading": 0} | blocks)

    assert seen == [
        (0, totals(free=2, reserved=2)),
        (32, totals(free=2, stored=2)),
        (32, totals(free=2, loading=2)),
        (0, totals(free=4)),
    ]


def test_a_prompt_that_does_not_fit_leaves_no_trace(ledger: Ledger) -> None:
    ledger.reserve("a", 48, readers=1)
    assert ledger.free_tokens == 16
    with pytest.raises(BufferFullError):
        ledger.reserve("b", 17, readers=1)
    assert "b" not in ledger
    assert ledger.free_tokens == 16


def test_every_reader_must_be_done_before_blocks_come_free(ledger: Ledger) -> None:
    ledger.reserve("a", 16, readers=2)
    ledger.store("a")
    ledger.load("a")
    assert not ledger.release("a")
    ledger.load("a")
    assert ledger.entry("a").state is EntryState.LOADING
    assert ledger.release("a")
    with pytest.raises(IntegrityError, match="no KV-buffer entry 'a'"):
        ledger.release("a")


def test_held_blocks_stay_taken_until_their_writer_lets_go(ledger: Ledger) -> None:
    ledger.reserve("a", 16, readers=1)
    ledger.pin("a")
    assert not ledger.release("a")
    assert ledger.free_tokens == 48
    with pytest.raises(IntegrityError, match="'a' was released too often"):
        ledger.release("a")
    ledger.unpin("a")
    assert ledger.free_tokens == 64


def test_letting_go_frees_nothing_that_is_still_read(ledger: Ledger) -> None:
    ledger.reserve("a", 16, readers=1)
    ledger.pin("a")
    ledger.unpin("a")
    assert ledger.free_tokens == 48


def test_steps_out_of_order_are_refused(ledger: Ledger) -> None:
    ledger.reserve("a", 16, readers=1)
    with pytest.raises(IntegrityError, match="'a' is reserved, not stored"):
        ledger.load("a")
    ledger.store("a")
    with pytest.raises(IntegrityError, match="'a' is stored, not reserved"):
        ledger.store("a")
    with pytest.raises(IntegrityError, match="'a' exists already"):
        ledger.reserve("a", 16, readers=1)
    with pytest.raises(IntegrityError, match="'b' would have no reader"):
        ledger.reserve("b", 16, readers=0)
