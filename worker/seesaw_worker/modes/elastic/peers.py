"""Tensors between the instances of a group, with deadlines.

Rank t of an instance talks to rank t of the others: both hold the same heads. Each pair of
instances has a connection of its own, so that the loss of an instance, or a wait that has run out,
breaks no connection between others.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.distributed import FileStore, PrefixStore
from vllm.distributed.utils import StatelessProcessGroup, init_gloo_process_group

from seesaw_core.errors import EngineDiedError


class Purpose(IntEnum):
    """What a tensor is for. Tensors of one purpose arrive in the order in which they are sent."""

    RING = 0
    QUERY = 1
    REPLY = 2
    MIGRATE = 3


class PeerError(EngineDiedError):
    """Another instance of the group has died, failed or not answered in time."""


class Exchange(Protocol):
    """Transfers under way. The tensors must live until :meth:`wait` returns."""

    def wait(self) -> None:
        """Raises: PeerError if a peer is gone or the deadline has passed."""


class Peers(Protocol):
    """The other instances. ``sent_bytes`` counts by purpose what this rank has sent, ever."""

    sent_bytes: dict[Purpose, int]

    def connect(self, others: Iterable[int], rendezvous: Path) -> None:
        """Connect anew with other instances, which must do so at the same time.

        ``rendezvous`` is the prefix of file names for these instances and this moment alone.
        Raises: PeerError if one of them does not come in time.
        """

    def drop(self, others: Iterable[int]) -> None:
        """Break connections, so that whoever waits at the other end need not wait any longer."""

    def exchange(
        self,
        purpose: Purpose,
        sends: Mapping[int, torch.Tensor],
        receives: Mapping[int, torch.Tensor],
    ) -> Exchange:
        """Begin to send tensors to instances and to receive others. Empty tensors do not travel.

        Raises: PeerError if a connection is broken.
        """


def peers_on(device: torch.device, number: int, timeout_s: float) -> Peers:
    """Return the peers of instance ``number``, with none of which it is connected yet."""
    if device.type == "cpu":
        return _GlooPeers(number, timeout_s)
    return _NcclPeers(number, timeout_s, device)


class _GlooExchange:
    def __init__(self, works: list[Any], timeout_s: float, tensors: object) -> None:
        self._works, self._timeout = works, timedelta(seconds=timeout_s)
        self._tensors = tensors  # they must outlive the transfer

    def wait(self) -> None:
        for work in self._works:
            try:
                work.wait(self._timeout)
            except RuntimeError as error:
                raise PeerError(f"another instance of the group is gone: {error}") from error


class _GlooPeers:
    """A process group of two for each pair of instances, over gloo."""

    def __init__(self, number: int, timeout_s: float) -> None:
        self.sent_bytes = dict.fromkeys(Purpose, 0)
        self._number, self._timeout_s = number, timeout_s
        self._groups: dict[int, Any] = {}

    def connect(self, others: Iterable[int], rendezvous: Path) -> None:
        for other in sorted(others):
            low, high = sorted((self._number, other))
            store = FileStore(f"{rendezvous}-{low}-{high}", 2)
            try:
                self._groups[other] = init_gloo_process_group(
                    PrefixStore("gloo", store),
                    int(self._number > other),
                    2,
                    timedelta(seconds=self._timeout_s),
                )
            except (RuntimeError, OSError) as error:
                raise PeerError(f"cannot connect with instance {other}: {error}") from error

    def drop(self, others: Iterable[int]) -> None:
        for other in others:
            group = self._groups.pop(other, None)
            if group is not None:
                group.abort()

    def exchange(
        self,
        purpose: Purpose,
        sends: Mapping[int, torch.Tensor],
        receives: Mapping[int, torch.Tensor],
    ) -> _GlooExchange:
        works: list[Any] = []
        kept = [(peer, tensor.contiguous()) for peer, tensor in sends.items() if tensor.numel()]
        try:
            for peer, tensor in receives.items():
                if tensor.numel():
                    works.append(self._group(peer).recv([tensor], self._end(peer), purpose))
            for peer, tensor in kept:
                works.append(self._group(peer).send([tensor], self._end(peer), purpose))
                self.sent_bytes[purpose] += tensor.numel() * tensor.element_size()
        except RuntimeError as error:
            raise PeerError(f"another instance of the group is gone: {error}") from error
        return _GlooExchange(works, self._timeout_s, (kept, dict(receives)))

    def _group(self, peer: int) -> Any:
        try:
            return self._groups[peer]
        except KeyError:
            raise PeerError(f"there is no connection with instance {peer}") from None

    def _end(self, peer: int) -> int:
        return int(peer > self._number)


class _NcclExchange:
    def __init__(self, event: Any, timeout_s: float, tensors: object) -> None:
        self._event, self._timeout_s, self._tensors = event, timeout_s, tensors

    def wait(self) -> None:
        """Let the current stream wait. The executor's deadline ends a rank that hangs."""
        torch.cuda.current_stream().wait_event(self._event)


class _NcclPeers:
    """A NCCL communicator for each pair of instances. Not run on a GPU yet."""

    def __init__(self, number: int, timeout_s: float, device: torch.device) -> None:
        self.sent_bytes = dict.fromkeys(Purpose, 0)
        self._number, self._timeout_s, self._device = number, timeout_s, device
        self._stream: Any = torch.cuda.Stream(device)
        self._pairs: dict[int, Any] = {}

    def connect(self, others: Iterable[int], rendezvous: Path) -> None:
        from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator

        for other in sorted(others):
            low, high = sorted((self._number, other))
            group = StatelessProcessGroup(
                rank=int(self._number > other),
                world_size=2,
                store=FileStore(f"{rendezvous}-{low}-{high}", 2),
            )
            self._pairs[other] = PyNcclCommunicator(group, device=self._device)

    def drop(self, others: Iterable[int]) -> None:
        for other in others:
            self._pairs.pop(other, None)

    def exchange(
        self,
        purpose: Purpose,
        sends: Mapping[int, torch.Tensor],
        receives: Mapping[int, torch.Tensor],
    ) -> _NcclExchange:
        kept = {peer: tensor.contiguous() for peer, tensor in sends.items() if tensor.numel()}
        self._stream.wait_stream(torch.cuda.current_stream())
        for peer in sorted(kept.keys() | receives.keys()):
            if (pair := self._pairs.get(peer)) is None:
                raise PeerError(f"there is no connection with instance {peer}")
            pair.group_start()
            if peer in kept:
                pair.send(kept[peer], int(peer > self._number), stream=self._stream)
                self.sent_bytes[purpose] += kept[peer].numel() * kept[peer].element_size()
            if peer in receives and receives[peer].numel():
                pair.recv(receives[peer], int(peer > self._number), stream=self._stream)
            pair.group_end()
        event = torch.cuda.Event()
        event.record(self._stream)
        return _NcclExchange(event, self._timeout_s, (kept, dict(receives)))
