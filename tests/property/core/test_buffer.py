"""The buffer's books balance under any sequence of operations."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from seesaw_core.errors import BufferFullError, IntegrityError
from seesaw_core.resharding.blocks import pair_runs
from seesaw_core.resharding.ledger import Entry, EntryState, Ledger

NUM_BLOCKS, BLOCK_SIZE = 12, 4


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_runs_cover_exactly_the_pairs_and_none_could_be_longer(
    pairs: list[tuple[int, int]],
) -> None:
    runs = pair_runs([s for s, _ in pairs], [t for _, t in pairs])
    covered = [(r.source + i, r.target + i) for r in runs for i in range(r.length)]
    assert covered == pairs
    assert all(run.length > 0 for run in runs)
    for run, following in pairwise(runs):
        end = (run.source + run.length, run.target + run.length)
        assert (following.source, following.target) != end


class LedgerMachine(RuleBasedStateMachine):
    """Drives a ledger in any order, beside the plainest possible books of our own."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
        self.readers: dict[str, int] = {}
        self.held: set[str] = set()
        self.count = 0

    def entries(self) -> list[Entry]:
        return list(self.ledger)

    def pick(self, data: st.DataObject) -> Entry:
        return data.draw(st.sampled_from(sorted(self.entries(), key=lambda e: e.key)))

    def forget_if_free(self, key: str, is_free: bool) -> None:
        expected = not self.readers[key] and key not in self.held
        assert is_free == expected
        if expected:
            del self.readers[key]

    @rule(num_tokens=st.integers(0, NUM_BLOCKS * BLOCK_SIZE + 1), readers=st.integers(1, 3))
    def reserve(self, num_tokens: int, readers: int) -> None:
        self.count += 1
        key = f"p{self.count}"
        if num_tokens > self.ledger.free_tokens:
            with pytest.raises(BufferFullError):
                self.ledger.reserve(key, num_tokens, readers=readers)
            return
        entry = self.ledger.reserve(key, num_tokens, readers=readers)
        assert len(entry.blocks) * BLOCK_SIZE >= num_tokens > (len(entry.blocks) - 1) * BLOCK_SIZE
        self.readers[key] = readers

    @precondition(lambda self: self.entries())
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        entry = self.pick(data)
        if entry.state is EntryState.RESERVED:
            self.ledger.store(entry.key)
        else:
            self.ledger.load(entry.key)

    @precondition(lambda self: self.entries())
    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        key = self.pick(data).key
        self.ledger.pin(key)
        self.held.add(key)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        self.ledger.unpin(key)
        self.held.remove(key)
        self.forget_if_free(key, key not in self.ledger)

    @precondition(lambda self: self.entries())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        key = self.pick(data).key
        if not self.readers[key]:
            with pytest.raises(IntegrityError):
                self.ledger.release(key)
            return
        self.readers[key] -= 1
        self.forget_if_free(key, self.ledger.release(key))

    @invariant()
    def the_books_balance(self) -> None:
        totals = self.ledger.totals()
        used = totals.reserved + totals.stored + totals.loading
        assert totals.free + used == totals.capacity == NUM_BLOCKS
        assert self.ledger.free_tokens == totals.free * BLOCK_SIZE
        assert {e.key for e in self.entries()} == self.readers.keys()
        out = [block for entry in self.entries() for block in entry.blocks]
        assert len(out) == len(set(out)) == used
        assert set(out) <= set(range(NUM_BLOCKS))


TestLedger = LedgerMachine.TestCase
