"""A rank that swaps one slot of a prompt for another's, to see that the checks notice."""

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
