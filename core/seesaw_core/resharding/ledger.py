"""The KV-buffer ledger: the state of every prompt's KV between the two engines.

    reserve ──> RESERVED ──store──> STORED ──load──> LOADING ──> released
                    └───────────── release at any point ─────────────┘

An entry may have several readers (``n > 1``, or equal prompts in one wave). Each reader
releases once; the last release frees the blocks. The ledger decides nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from seesaw_core.errors import IntegrityError
from seesaw_core.resharding.blocks import BlockAllocator, num_blocks_for


class EntryState(StrEnum):
    """The state of a prompt's KV in the buffer."""

    RESERVED = "reserved"
    STORED = "stored"
    LOADING = "loading"


@dataclass(slots=True, kw_only=True)
class Entry:
    """One prompt's KV in the buffer. Units: ``num_tokens`` in tokens."""

    key: str
    num_tokens: int
    blocks: tuple[int, ...]
    readers: int
    state: EntryState = EntryState.RESERVED
    may_free: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTotals:
    """Blocks by state; they add up to ``capacity``."""

    capacity: int
    free: int
    reserved: int
    stored: int
    loading: int


class Ledger:
    """Accounts for ``num_blocks`` blocks of ``block_size`` tokens.

    Invariant: free + reserved + stored + loading = capacity.
    """

    def __init__(self, *, num_blocks: int, block_size: int) -> None:
        self.block_size = block_size
        self._blocks = BlockAllocator(num_blocks)
        self._entries: dict[str, Entry] = {}
        self._num_in = dict.fromkeys(EntryState, 0)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    @property
    def capacity_tokens(self) -> int:
        return self._blocks.num_blocks * self.block_size

    @property
    def free_tokens(self) -> int:
        return self._blocks.num_free * self.block_size

    @property
    def stored_tokens(self) -> int:
        """Tokens of the prompts whose KV is complete, loading ones included."""
        num_blocks = self._num_in[EntryState.STORED] + self._num_in[EntryState.LOADING]
        return num_blocks * self.block_size

    def reserve(self, key: str, num_tokens: int, *, readers: int) -> Entry:
        """Allocate blocks for a prompt that is about to be prefilled.

        Raises: BufferFullError if they do not fit now; IntegrityError if ``key`` is in use.
        """
        if key in self._entries:
            raise IntegrityError(f"KV-buffer entry {key!r} exists already")
        if readers < 1:
            raise IntegrityError(f"KV-buffer entry {key!r} would have no reader")
        blocks = self._blocks.take(num_blocks_for(num_tokens, self.block_size))
        entry = Entry(key=key, num_tokens=num_tokens, blocks=blocks, readers=readers)
        self._entries[key] = entry
        self._num_in[entry.state] += len(blocks)
        return entry

    def entry(self, key: str) -> Entry:
        """Return an entry. Raises: IntegrityError if there is none."""
        try:
            return self._entries[key]
        except KeyError:
            raise IntegrityError(f"no KV-buffer entry {key!r}") from None

    def store(self, key: str) -> None:
        """Record that the prefill engine has written all of the prompt's KV."""
        self._advance(key, EntryState.RESERVED, EntryState.STORED)

    def load(self, key: str) -> None:
        """Record that a reader has begun to load. Later readers of the entry change nothing."""
        entry = self.entry(key)
        if entry.state is not EntryState.LOADING:
            self._advance(key, EntryState.STORED, EntryState.LOADING)

    def pin(self, key: str) -> None:
        """Keep the blocks even without readers, since the prefill engine may still write them."""
        self.entry(key).may_free = False

    def unpin(self, key: str) -> None:
        """Let the blocks go once no reader is left: the prefill engine writes no more."""
        entry = self.entry(key)
        entry.may_free = True
        self._free_if_unused(entry)

    def release(self, key: str) -> bool:
        """Record that one reader is done or gave up. Returns whether the blocks are free now.

        Raises: IntegrityError if nobody could still be reading.
        """
        entry = self.entry(key)
        if entry.readers < 1:
            raise IntegrityError(f"KV-buffer entry {key!r} was released too often")
        entry.readers -= 1
        return self._free_if_unused(entry)

    def totals(self) -> LedgerTotals:
        return LedgerTotals(
            capacity=self._blocks.num_blocks,
            free=self._blocks.num_free,
            reserved=self._num_in[EntryState.RESERVED],
            stored=self._num_in[EntryState.STORED],
            loading=self._num_in[EntryState.LOADING],
        )

    def _free_if_unused(self, entry: Entry) -> bool:
        if entry.readers or not entry.may_free:
            return False
        del self._entries[entry.key]
        self._num_in[entry.state] -= len(entry.blocks)
        self._blocks.give_back(entry.blocks)
        return True

    def _advance(self, key: str, expected: EntryState, state: EntryState) -> None:
        entry = self.entry(key)
        if entry.state is not expected:
            raise IntegrityError(f"KV-buffer entry {key!r} is {entry.state}, not {expected}")
        self._num_in[entry.state] -= len(entry.blocks)
        self._num_in[state] += len(entry.blocks)
        entry.state = state
