"""Ranks that go wrong on purpose, to see that it is noticed, or that it costs nothing."""

import copy

import torch

from seesaw_worker.modes.elastic.slots import Context, SlotTable
from seesaw_worker.modes.elastic.worker import ElasticWorker


class SwappingWorker(ElasticWorker):
    """Reads the first token of every context from the slot of its second."""

    def elastic_prepare(self) -> None:
        super().elastic_prepare()
        assert self._tasks is not None
        slots = self._tasks.slots
        self._tasks.slots = _SwappingSlots(slots.num_slots, slots.block_size)


class _SwappingSlots(SlotTable):
    def of(self, key: str) -> Context:
        context = copy.deepcopy(super().of(key))
        if len(context) > 1:
            context.slots[0] = context.slots[1]
            context.num_paged = 0
        return context


class RaisingWorker(ElasticWorker):
    """Raises three times, whenever the second instance has taken slots so often."""

    def elastic_prepare(self) -> None:
        super().elastic_prepare()
        assert self._tasks is not None
        if self._settings.number == 1:
            slots = self._tasks.slots
            self._tasks.slots = _RaisingSlots(slots.num_slots, slots.block_size)


class _RaisingSlots(SlotTable):
    _calls = 0
    _raises_at = (3, 9, 15)

    def take(self, key: str, num_tokens: int) -> torch.Tensor:
        if key.startswith("warm-up"):
            return super().take(key, num_tokens)
        self._calls += 1
        if self._calls in self._raises_at:
            raise RuntimeError("raised on purpose")
        return super().take(key, num_tokens)
