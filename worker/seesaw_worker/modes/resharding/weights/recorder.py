"""Records what loading a model writes into the arena, as places and strides only.

The recorder observes every torch operation of ``load_weights``. A copy from the host copy and a
fill with a constant can be replayed. What other operations write,
:mod:`seesaw_worker.modes.resharding.weights.replay` finds by comparing bytes. No tensor is kept.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seesaw_worker.modes.resharding.weights.host import HostModel, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The geometry of a tensor. Units: ``offset`` in bytes, strides in elements."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyOp:
    """Copy ``source`` of host file ``file`` to ``target`` in the arena."""

    target: View
    file: int
    source: View


@dataclass(frozen=True, slots=True, kw_only=True)
class FillOp:
    """Fill ``target`` in the arena with one value."""

    target: View
    value: float | int | bool


Op = CopyOp | FillOp


class Recorder(TorchDispatchMode):
    """Collects the replayable writes into the arena while it is active.

    ``find`` returns a tensor's byte offset in the arena, or None if it is elsewhere.
    """

    def __init__(self, host: HostModel, find: Callable[[torch.Tensor], int | None]) -> None:
        super().__init__()
        self.ops: list[Op] = []
        self._host = host
        self._find = find

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.copy_.default:
            self._record_copy(args[0], args[1])
        elif func is torch.ops.aten.fill_.Scalar:
            self._record_fill(args[0], args[1])
        elif func is torch.ops.aten.zero_.default:
            self._record_fill(args[0], 0)
        return result

    def _record_copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        offset = self._find(target)
        place = self._host.locate(source) if offset is not None else None
        if offset is None or place is None:
            return
        self.ops.append(
            CopyOp(
                target=_view(target, offset),
                file=place.file,
                source=_view(source.expand_as(target), place.offset),
            )
        )

    def _record_fill(self, target: torch.Tensor, value: float | bool) -> None:
        offset = self._find(target)
        if offset is not None:
            self.ops.append(FillOp(target=_view(target, offset), value=value))


@contextmanager
def recording(host: HostModel, find: Callable[[torch.Tensor], int | None]) -> Iterator[list[Op]]:
    """Yield a list to which the replayable writes inside the context are added."""
    recorder = Recorder(host, find)
    with recorder:
        yield recorder.ops


def _view(tensor: torch.Tensor, offset: int) -> View:
    return View(
        offset=offset,
        shape=tuple(tensor.shape),
        strides=tuple(tensor.stride()),
        dtype=tensor.dtype,
    )


__all__ = ["CopyOp", "FillOp", "Op", "Place", "Recorder", "View", "recording"]
