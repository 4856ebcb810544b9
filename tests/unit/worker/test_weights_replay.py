"""A replay restores exactly what loading left in the arena, however it got there."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from seesaw_worker.devices.base import ArenaMemory
from seesaw_worker.devices.cpu import CpuDevice
from seesaw_worker.modes.resharding.weights.arena import Arena
from seesaw_worker.modes.resharding.weights.host import HostModel
from seesaw_worker.modes.resharding.weights.recorder import recording
from seesaw_worker.modes.resharding.weights.replay import WeightsReplay


class Shard(nn.Module):
    """A rank's part of a tiny model: what vLLM's layers do to weights, in small."""

    def __init__(self) -> None:
        super().__init__()
        self.merged = nn.Parameter(torch.empty(24, 16))
        self.rows = nn.Parameter(torch.empty(16, 8))
        self.norm = nn.Parameter(torch.empty(16, dtype=torch.float32))
        self.padded = nn.Parameter(torch.empty(10, 16))
        self.cast = nn.Parameter(torch.empty(16, 16, dtype=torch.bfloat16))
        self.experts = nn.Parameter(torch.empty(2, 8, 16))
        self.tied = self.merged


def load(model: Shard, source: dict[str, torch.Tensor], *, sabotage: str = "") -> None:
    model.merged.data[:16].copy_(source["q"])
    model.merged.data[16:].copy_(source["k"][:8])
    model.rows.data.copy_(source["o"][:, 8:])
    model.norm.data.copy_(source["norm"])
    model.padded.data.fill_(0)
    model.padded.data[:7].copy_(source["vocab"])
    model.cast.data.copy_(source["q"])
    for expert in range(2):
        model.experts.data[expert].copy_(source["k"][expert * 8 : expert * 8 + 8])
    if sabotage == "in place":
        model.norm.data.mul_(1.5)
    if sabotage == "part":
        model.rows.data[3] = model.rows.data[3] * 2
    if sabotage == "new tensor":
        model.padded = nn.Parameter(model.padded.data * 3)
    if sabotage == "off the arena":
        model.rows.data = model.rows.data.t().contiguous().t()


@pytest.fixture
def host(tmp_path: Path) -> HostModel:
    torch.manual_seed(0)
    tensors = {
        "q": torch.randn(16, 16),
        "k": torch.randn(16, 16),
        "o": torch.randn(16, 16),
        "norm": torch.randn(16),
        "vocab": torch.randn(7, 16),
    }
    path = tmp_path / "model.safetensors"
    save_file(tensors, path)
    return HostModel([path])


def build(host: HostModel, sabotage: str = "") -> tuple[Arena, Shard, WeightsReplay]:
    arena = Arena(ArenaMemory(bytes=torch.zeros(1 << 16, dtype=torch.uint8)))
    with arena.placing_parameters(), recording(host, arena.find) as ops:
        model = Shard()
        load(model, dict(host.tensors()), sabotage=sabotage)
    live = [p.data for p in model.parameters()]
    replay = WeightsReplay(arena=arena, host=host, device=CpuDevice(), ops=ops, live=live)
    return arena, model, replay


def values(model: Shard) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize(
    "sabotage", ["", "in place", "part", "new tensor", "off the arena"], ids=lambda s: s or "none"
)
def test_replaying_restores_every_parameter_after_the_arena_was_overwritten(
    host: HostModel, sabotage: str
) -> None:
    arena, model, replay = build(host, sabotage)
    expected, digest = values(model), replay.checksum()
    for garbage in (0xFF, 0x00):
        arena.memory.bytes.fill_(garbage)
        replay.run()
        assert all(torch.equal(a, b) for a, b in zip(values(model), expected, strict=True))
        assert replay.checksum() == digest


def test_plain_loading_needs_no_snapshot_and_nothing_outside_the_arena(host: HostModel) -> None:
    _, _, replay = build(host)
    assert replay.summary.snapshot_bytes == 0
    assert replay.summary.resident_bytes == 0


def test_computed_bytes_are_found_and_only_they_are_kept(host: HostModel) -> None:
    _, _, replay = build(host, "part")
    assert 0 < replay.summary.snapshot_bytes <= 8 * 4
    _, _, replay = build(host, "off the arena")
    assert replay.summary.resident_bytes == 16 * 8 * 4


def test_a_changed_bit_changes_the_checksum(host: HostModel) -> None:
    arena, _, replay = build(host)
    digest = replay.checksum()
    arena.memory.bytes[replay.regions[0].offset + 5] ^= 0x40
    assert replay.checksum() != digest


def test_equal_replays_have_equal_identities_and_others_do_not(host: HostModel) -> None:
    assert build(host)[2].identity() == build(host)[2].identity()
    assert build(host)[2].identity() != build(host, "in place")[2].identity()
