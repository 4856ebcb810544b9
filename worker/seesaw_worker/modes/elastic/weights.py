"""One host copy of the weights for all instances, where their devices are the host itself.

Rank t of each instance holds the same weights. Once all have loaded, rank t of the first instance
moves them into shared memory, and rank t of each other instance maps that instead of its own.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from seesaw_core.errors import IntegrityError
from seesaw_worker.processes.shm import create_segment, map_segment

_ALIGNED = 64


def publish(model: torch.nn.Module, path: Path) -> int:
    """Move the parameters into a new segment. Returns its bytes.

    Raises: CapacityError if shared memory cannot hold them.
    """
    num_bytes = max((stop for *_, stop in _places(model)), default=0)
    if num_bytes:
        create_segment(path, num_bytes, flag="--weights=resident")
        for parameter, shared in _shared(model, path):
            shared.copy_(parameter.data)
            parameter.data = shared
    return num_bytes


def adopt(model: torch.nn.Module, path: Path) -> int:
    """Let the parameters be those of the segment. Returns its bytes.

    Raises: IntegrityError if the model has other weights.
    """
    num_bytes = max((stop for *_, stop in _places(model)), default=0)
    if num_bytes:
        if (there := path.stat().st_size) != num_bytes:
            raise IntegrityError(f"{path} has {there} bytes, not {num_bytes}")
        for parameter, shared in _shared(model, path):
            if not torch.equal(_bytes(parameter.data), _bytes(shared)):
                raise IntegrityError("two instances have loaded different weights")
            parameter.data = shared
    return num_bytes


def _places(model: torch.nn.Module) -> Iterator[tuple[torch.nn.Parameter, int, int]]:
    """Yield each parameter with its first byte and the one behind its last."""
    stop = 0
    for parameter in model.parameters():
        if parameter.numel() and parameter.is_contiguous():
            start = -(-stop // _ALIGNED) * _ALIGNED
            stop = start + parameter.numel() * parameter.element_size()
            yield parameter, start, stop


def _shared(
    model: torch.nn.Module, path: Path
) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
    """Yield each parameter with its place in the segment, as a tensor of the same form."""
    memory = map_segment(path)
    for parameter, start, _ in list(_places(model)):
        flat = torch.frombuffer(
            memory, dtype=parameter.dtype, count=parameter.numel(), offset=start
        )
        yield parameter, flat.view(parameter.shape)


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)
