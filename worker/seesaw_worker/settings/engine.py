"""Settings for every process of an engine, which travel inside vLLM's own configuration."""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from seesaw_core.layouts import Layout, ModelShape
from seesaw_worker.processes.control_page import Role

_KEY = "seesaw"


class WeightsMode(StrEnum):
    """Where the two engines keep their weights."""

    SHARED = "shared"
    RESIDENT = "resident"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Settings of one engine. Units: bytes; ``block_size`` in tokens.

    ``folder`` is the worker's run folder, ``server_pid`` the process whose death ends the engine.
    ``arena_bytes`` and ``cores`` (empty on a GPU) have one entry per device. ``always_replay``
    fills the arena even where both engines need the same bytes in it.
    """

    role: Role
    folder: Path
    server_pid: int
    prefill: Layout
    decode: Layout
    shape: ModelShape
    weights: WeightsMode
    arena_bytes: tuple[int, ...]
    block_size: int
    page_bytes: int
    num_buffer_blocks: int
    cores: tuple[str, ...]
    verify_kv: bool
    always_replay: bool = False

    @property
    def layout(self) -> Layout:
        return self.prefill if self.role is Role.PREFILL else self.decode

    @property
    def buffer_path(self) -> Path:
        return self.folder / "kv-buffer"

    @property
    def sums_path(self) -> Path:
        return self.folder / "kv-sums"

    @property
    def socket_path(self) -> Path:
        return self.folder / f"{self.role.title}.sock"

    @property
    def block_bytes(self) -> int:
        """Bytes of one block of the buffer: all layers and KV heads of ``block_size`` tokens."""
        return self.shape.num_layers * self.shape.num_kv_heads * self.page_bytes

    def to_additional_config(self) -> dict[str, Any]:
        """Return the settings as vLLM's ``additional_config``, which every process receives."""
        fields = dataclasses.asdict(self)
        return {_KEY: fields | {"folder": str(self.folder), "weights": self.weights.value}}

    @classmethod
    def of(cls, additional_config: dict[str, Any]) -> "EngineSettings":
        fields = dict(additional_config[_KEY])
        return cls(
            **fields
            | {
                "role": Role(fields["role"]),
                "folder": Path(fields["folder"]),
                "prefill": Layout(**fields["prefill"]),
                "decode": Layout(**fields["decode"]),
                "shape": ModelShape(**fields["shape"]),
                "weights": WeightsMode(fields["weights"]),
                "arena_bytes": tuple(fields["arena_bytes"]),
                "cores": tuple(fields["cores"]),
            }
        )
