"""Ranks that go wrong on purpose, to see that it is noticed, or that it costs nothing."""

import torch

from seesaw_worker.modes.elastic.slots import SlotTable
from seesaw_worker.modes.elastic.worker import ElasticWorker


class SwappingWorker(ElasticWorker):
    """Reads the first token of every long prompt from the slot of its second."""

    def elastic_prepare(self) -> None:
        super().elastic_prepare()
        assert self._tasks is not None
        self._tasks.slots = _SwappingSlots(self._tasks.slots.num_slots, torch.device("cpu"))


class _SwappingSlots(SlotTable):
    def of(self, key: str) -> torch.Tensor:
        slots = super().of(key).clone()
        if len(slots) > 8:
            slots[0] = slots[1]
        return slots


class RaisingWorker(ElasticWorker):
    """Raises three times, whenever the second instance has taken slots so often."""

    def elastic_prepare(self) -> None:
        super().elastic_prepare()
        assert self._tasks is not None
        if self._settings.number == 1:
            self._tasks.slots = _RaisingSlots(self._tasks.slots.num_slots, torch.device("cpu"))


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
