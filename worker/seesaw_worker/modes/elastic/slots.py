"""Which slots of an instance's KV memory hold which request's tokens.

A slot holds one token's K and V in each layer. Slots lie in blocks, in which vLLM's kernels read a
context without a copy if it is *paged*: token i of it is in slot i of its blocks. So a request
continues its last block, and then begins blocks of which nobody has a slot. Only when none is left
does it take single slots from the unfilled ends of others, so that any free slot serves any token.

Which of a request's tokens are here is known to the scheduler alone, and attention does not depend
on it. Here they are counted in the order in which they came.
"""

from array import array
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from seesaw_core.errors import IntegrityError


class Context:
    """The slots of a request's tokens on one instance, in their order. Grows in place."""

    __slots__ = ("block_size", "num_paged", "slots")

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.slots = array("q")
        self.num_paged = 0  # leading tokens that are paged

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def is_paged(self) -> bool:
        return self.num_paged == len(self.slots)

    @property
    def blocks(self) -> torch.Tensor:
        """[blocks] int32, of which those of the leading ``num_paged`` tokens hold them in order."""
        firsts = np.frombuffer(self.slots, np.int64)[:: self.block_size]
        return torch.from_numpy((firsts // self.block_size).astype(np.int32))

    def tensor(self, start: int = 0) -> torch.Tensor:
        """Return [tokens] int64, a copy, from token ``start`` on."""
        return torch.from_numpy(np.frombuffer(self.slots, np.int64)[start:].copy())

    def extend(self, first: int, stop: int) -> None:
        """Add slots ``[first, stop)``, which lie in one block."""
        size, held = self.block_size, len(self.slots)
        continues = not held or held % size == 0 or self.slots[-1] + 1 == first
        if self.is_paged and continues and first % size == held % size:
            self.num_paged += stop - first
        self.slots.extend(range(first, stop))

    def cut(self, num_tokens: int) -> npt.NDArray[np.int64]:
        """Keep the first tokens. Return the slots of the others. Requires: as many tokens."""
        gone = np.array(self.slots[num_tokens:], np.int64)
        del self.slots[num_tokens:]
        self.num_paged = min(self.num_paged, num_tokens)
        return gone


class SlotTable:
    """Gives out the slots of one instance, which are blocks of ``block_size``.

    Invariant: free slots and the slots of all requests are the instance's slots, each once.
    """

    def __init__(self, num_slots: int, block_size: int) -> None:
        self.num_slots, self.block_size = num_slots, block_size
        self._num_free = num_slots
        # Of each block, bit i is set if slot i of it is free.
        self._full = (1 << block_size) - 1
        self._bits = [self._full] * (num_slots // block_size)
        if rest := num_slots % block_size:
            self._bits.append((1 << rest) - 1)
        self._empty = [b for b, bits in enumerate(self._bits) if bits == self._full][::-1]
        self._unfilled = dict.fromkeys(b for b, bits in enumerate(self._bits) if bits != self._full)
        self._held: dict[str, Context] = {}

    def __len__(self) -> int:
        """Requests that hold slots."""
        return len(self._held)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    @property
    def num_free(self) -> int:
        return self._num_free

    def of(self, key: str) -> Context:
        """Return the slots of a request; none if it has none."""
        return self._held.get(key) or Context(self.block_size)

    def take(self, key: str, num_tokens: int) -> torch.Tensor:
        """Give a request more slots; return [num_tokens] the new ones.

        Raises: IntegrityError if there are too few.
        """
        if num_tokens > self._num_free:
            raise IntegrityError(
                f"{num_tokens} tokens of KV do not fit into the {self._num_free} free slots"
            )
        if not num_tokens:
            return torch.empty(0, dtype=torch.int64)
        held = self._held.setdefault(key, Context(self.block_size))
        before = len(held)
        while (left := num_tokens - (len(held) - before)) > 0:
            first, stop = self._next_run(held, left)
            self._occupy(first, stop)
            held.extend(first, stop)
        self._num_free -= num_tokens
        return held.tensor(before)

    def keep(self, key: str, num_tokens: int) -> None:
        """Cut a request's slots to its first ones, as after an iteration that failed.

        Raises: IntegrityError if it has fewer.
        """
        held = self._held.get(key, ())
        if len(held) < num_tokens:
            raise IntegrityError(f"request {key!r} holds {len(held)} slots, not {num_tokens}")
        if not num_tokens:
            self.release(key)
        elif len(held) > num_tokens:
            self._give_back(self._held[key].cut(num_tokens))

    def change(self, key: str, num_tokens: int, new_key: str = "") -> None:
        """Cut slots to the first ones, and let them be another key's. None are left of none.

        Raises: IntegrityError if there are fewer, or if the other key has some already.
        """
        if not num_tokens:
            self.release(key)
            return
        self.keep(key, num_tokens)
        if new_key:
            if new_key in self._held:
                raise IntegrityError(f"{new_key!r} holds slots already")
            self._held[new_key] = self._held.pop(key)

    def release(self, key: str) -> None:
        """Free all slots of a request. One that holds none is no error."""
        if (held := self._held.pop(key, None)) is not None:
            self._give_back(held.cut(0))

    def _next_run(self, held: Context, num_tokens: int) -> tuple[int, int]:
        """Return free slots ``[first, stop)`` of one block: at most ``num_tokens``, at least 1."""
        if len(held) % self.block_size:
            block, offset = divmod(held.slots[-1] + 1, self.block_size)
            if offset and self._bits[block] >> offset & 1:
                return self._run(block, offset, num_tokens)
        if self._empty:
            return self._run(self._empty[-1], 0, num_tokens)
        block = next(iter(self._unfilled))
        bits = self._bits[block]
        return self._run(block, (bits & -bits).bit_length() - 1, num_tokens)

    def _run(self, block: int, offset: int, num_tokens: int) -> tuple[int, int]:
        bits = self._bits[block] >> offset
        length = (~bits & (bits + 1)).bit_length() - 1  # of the run of ones at the end
        first = block * self.block_size + offset
        return first, first + min(length, num_tokens)

    def _occupy(self, first: int, stop: int) -> None:
        block, offset = divmod(first, self.block_size)
        if self._bits[block] == self._full:
            self._empty.pop()  # the one that _next_run names
        self._bits[block] &= ~(((1 << (stop - first)) - 1) << offset)
        if self._bits[block]:
            self._unfilled[block] = None
        else:
            self._unfilled.pop(block, None)

    def _give_back(self, slots: npt.NDArray[np.int64]) -> None:
        begins = (np.diff(slots) != 1) | (slots[1:] % self.block_size == 0)
        runs = np.split(slots, np.flatnonzero(begins) + 1) if len(slots) else []
        for run in reversed(runs):
            block, offset = divmod(int(run[0]), self.block_size)
            self._bits[block] |= ((1 << len(run)) - 1) << offset
            if self._bits[block] == self._full:
                self._unfilled.pop(block, None)
                self._empty.append(block)
            else:
                self._unfilled[block] = None
        self._num_free += len(slots)
