"""Which slots of an instance's KV memory hold which request's tokens.

A slot holds one token's K and V in each layer. Attention does not depend on the order of keys, so
a request's slots form a set; only its size is known to the scheduler, whose pool counts tokens.
"""

from collections.abc import Iterator

import torch

from seesaw_core.errors import IntegrityError


class SlotTable:
    """Gives out the slots of one instance.

    Invariant: free slots and the slots of all requests are the instance's slots, each once.
    """

    def __init__(self, num_slots: int, device: torch.device) -> None:
        self.num_slots = num_slots
        self._device = device
        self._free = torch.arange(num_slots - 1, -1, -1)
        self._num_free = num_slots
        self._held: dict[str, torch.Tensor] = {}
        self._on_device: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        """Requests that hold slots."""
        return len(self._held)

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    @property
    def num_free(self) -> int:
        return self._num_free

    def of(self, key: str) -> torch.Tensor:
        """Return [tokens] the slots of a request, on the device; empty if it has none."""
        if key not in self._on_device:
            self._on_device[key] = self._slots(key).to(self._device)
        return self._on_device[key]

    def take(self, key: str, num_tokens: int) -> torch.Tensor:
        """Give a request more slots; return [num_tokens] the new ones, on the device.

        Raises: IntegrityError if there are too few.
        """
        if num_tokens > self._num_free:
            raise IntegrityError(
                f"{num_tokens} tokens of KV do not fit into the {self._num_free} free slots"
            )
        taken = self._free[self._num_free - num_tokens : self._num_free].flip(0)
        self._num_free -= num_tokens
        self._held[key] = torch.cat([self._slots(key), taken])
        self._on_device.pop(key, None)
        return taken.to(self._device)

    def keep(self, key: str, num_tokens: int) -> None:
        """Cut a request's slots to its first ones, as after an iteration that failed.

        Raises: IntegrityError if it has fewer.
        """
        held = self._slots(key)
        if len(held) < num_tokens:
            raise IntegrityError(f"request {key!r} holds {len(held)} slots, not {num_tokens}")
        if len(held) > num_tokens:
            self._give_back(held[num_tokens:])
            self._held[key] = held[:num_tokens]
            self._on_device.pop(key, None)

    def release(self, key: str) -> None:
        """Free all slots of a request. One that holds none is no error."""
        self._give_back(self._slots(key))
        self._held.pop(key, None)
        self._on_device.pop(key, None)

    def _slots(self, key: str) -> torch.Tensor:
        return self._held.get(key, self._free[:0])

    def _give_back(self, slots: torch.Tensor) -> None:
        self._free[self._num_free : self._num_free + len(slots)] = slots.flip(0)
        self._num_free += len(slots)
