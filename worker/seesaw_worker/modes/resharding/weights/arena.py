"""The weights arena of one device: memory that the ranks of both engines share.

An engine places each parameter in the arena as soon as the parameter is registered, so that the
device never holds a second copy of the weights.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from seesaw_core.errors import CapacityError
from seesaw_worker.devices.base import ArenaMemory

_ALIGNMENT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The part of the arena that holds one parameter. Units: bytes."""

    name: str
    offset: int
    num_bytes: int


class Arena:
    """Places parameters in one device's arena memory, one after the other."""

    def __init__(self, memory: ArenaMemory) -> None:
        self.memory = memory
        self.regions: list[Region] = []
        self.used_bytes = 0

    def find(self, tensor: torch.Tensor) -> int | None:
        """Return the byte offset of a tensor in the arena, or None if it is elsewhere."""
        if tensor.device.type != self.memory.bytes.device.type or not tensor.numel():
            return None
        offset = tensor.data_ptr() - self.memory.bytes.data_ptr()
        return offset if 0 <= offset < self.memory.bytes.numel() else None

    def place(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor like ``tensor`` in the next free part of the arena, uninitialised.

        Raises: CapacityError if the arena is full.
        """
        num_bytes = tensor.numel() * tensor.element_size()
        start = self.used_bytes
        if start + num_bytes > self.memory.bytes.numel():
            raise CapacityError(
                f"the weights arena of {self.memory.bytes.numel()} bytes cannot take {name!r} "
                f"({num_bytes} bytes at {start}): the model is larger than its checkpoint says; "
                "use --weights resident or --reshard never"
            )
        raw = self.memory.bytes[start : start + num_bytes]
        self.regions.append(Region(name=name, offset=start, num_bytes=num_bytes))
        self.used_bytes = -(-(start + num_bytes) // _ALIGNMENT) * _ALIGNMENT
        return raw.view(tensor.dtype).view(tensor.shape)

    @contextmanager
    def placing_parameters(self) -> Iterator[None]:
        """Place every parameter that is registered inside the context in the arena."""
        count = 0

        def rebase(module: nn.Module, name: str, parameter: Any) -> None:
            nonlocal count
            if parameter is None or parameter.is_meta or not parameter.numel():
                return
            data = parameter.data
            if self.find(data) is not None or data.device != self.memory.bytes.device:
                return
            if not data.is_contiguous():
                return  # it stays outside the arena, private to this engine
            placed = self.place(f"{type(module).__name__}[{count}].{name}", data)
            count += 1
            placed.copy_(data)
            parameter.data = placed

        handle = register_module_parameter_registration_hook(rebase)
        try:
            yield
        finally:
            handle.remove()
