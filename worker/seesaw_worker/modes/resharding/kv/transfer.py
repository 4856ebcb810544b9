"""Messages between the two halves of the connector, and from the connector to the server."""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorMetadata

_KEY = "seesaw"


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferTicket:
    """A request's claim on the KV buffer: the blocks for the KV of its first tokens.

    The first ``num_cached_tokens`` were not computed for this request: they came from a prefix
    cache, or from an equal prompt that was prefilled at the same time.
    """

    key: str
    num_tokens: int
    blocks: tuple[int, ...]
    num_cached_tokens: int = 0

    def to_params(self) -> dict[str, Any]:
        """Return the ticket as vLLM's ``kv_transfer_params``."""
        fields = {
            "key": self.key,
            "num_tokens": self.num_tokens,
            "blocks": list(self.blocks),
            "num_cached_tokens": self.num_cached_tokens,
        }
        return {_KEY: fields}

    @classmethod
    def of(cls, params: Mapping[str, Any] | None) -> "BufferTicket | None":
        fields = params.get(_KEY) if params else None
        if fields is None:
            return None
        return cls(
            key=fields["key"],
            num_tokens=fields["num_tokens"],
            blocks=tuple(fields["blocks"]),
            num_cached_tokens=fields["num_cached_tokens"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCopy:
    """Blocks of one request that a step saves or loads."""

    request_id: str
    buffer_blocks: tuple[int, ...]
    pool_blocks: tuple[int, ...]


@dataclass
class StepCopies(KVConnectorMetadata):
    """The copies of one step, sent from the scheduler half to the worker half."""

    saves: list[BlockCopy] = field(default_factory=list)
    loads: list[BlockCopy] = field(default_factory=list)


class Progress(StrEnum):
    """What the decode engine reports of a buffer entry."""

    LOADING = "loading"
    RELEASED = "released"


class ProgressSender:
    """Sends progress of buffer entries to the server, as lines of JSON over a Unix socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))

    def send(self, progress: Progress, key: str, request_id: str) -> None:
        self._socket.sendall(json.dumps([progress, key, request_id]).encode() + b"\n")

    def close(self) -> None:
        self._socket.close()


def parse_progress(line: bytes) -> tuple[Progress, str, str]:
    """Parse a line of :class:`ProgressSender`. Returns the progress, the entry and the request."""
    progress, key, request_id = json.loads(line)
    return Progress(progress), key, request_id
