"""Instances share one copy of their weights, byte for byte what each had loaded."""

from pathlib import Path

import pytest
import torch

from seesaw_core.errors import IntegrityError
from seesaw_worker.modes.elastic.weights import adopt, publish


def model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    layers = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Linear(7, 5).to(torch.bfloat16))
    layers.append(torch.nn.Linear(5, 7, bias=False))
    layers[2].weight = layers[0].weight  # tied, as an embedding and its head
    return layers.requires_grad_(False)


def test_all_instances_read_the_same_bytes(tmp_path: Path) -> None:
    plain, first, second = model(), model(), model()
    num_bytes = publish(first, tmp_path / "arena-0")
    assert adopt(second, tmp_path / "arena-0") == num_bytes
    for one, other, alone in zip(
        first.parameters(), second.parameters(), plain.parameters(), strict=True
    ):
        assert torch.equal(one, alone)
        assert torch.equal(other, alone)
    first[0].weight[0, 0] = 42.0
    assert second[0].weight[0, 0] == second[2].weight[0, 0] == 42.0


def test_other_weights_are_refused(tmp_path: Path) -> None:
    publish(model(), tmp_path / "arena-0")
    with pytest.raises(IntegrityError, match="different weights"):
        adopt(model(seed=1), tmp_path / "arena-0")
