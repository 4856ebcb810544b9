"""A re-shard delivers every page of KV once, proven of the copies that ranks themselves make."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from seesaw_core.errors import LayoutError
from seesaw_core.layouts import Layout, ModelShape, check_layout
from seesaw_core.resharding.placement import place_kv
from seesaw_worker.devices.cpu import CpuDevice
from seesaw_worker.modes.resharding.kv import pages as kv_pages
from seesaw_worker.modes.resharding.kv.buffer import create_buffer
from seesaw_worker.modes.resharding.kv.pages import Pages
from seesaw_worker.modes.resharding.kv.transfer import BlockCopy
from seesaw_worker.processes.control_page import Role
from seesaw_worker.settings.engine import EngineSettings, WeightsMode

NUM_BLOCKS = 4
PAIRS = [
    ((t1, n // t1), (t2, n // t2))
    for n in range(1, 9)
    for t1 in range(1, n + 1)
    for t2 in range(1, n + 1)
    if n % t1 == 0 and n % t2 == 0
]
SHAPES = st.builds(
    lambda layers, kv_heads, group: ModelShape(
        num_layers=layers, num_heads=kv_heads * group, num_kv_heads=kv_heads, head_dim=8
    ),
    st.integers(1, 11),
    st.sampled_from([1, 2, 3, 4, 6, 8]),
    st.sampled_from([1, 2, 4, 8]),
)
BLOCKS = st.permutations(range(NUM_BLOCKS)).flatmap(
    lambda order: st.integers(1, NUM_BLOCKS).map(lambda count: tuple(order[:count]))
)


class AddingDevice(CpuDevice):
    """Adds where a device copies, so that a page that comes twice is twice its value."""

    def copy_rows(
        self,
        target: torch.Tensor,
        target_rows: Sequence[int],
        source: torch.Tensor,
        source_rows: Sequence[int],
    ) -> None:
        for to, from_ in zip(target_rows, source_rows, strict=True):
            target[to] += source[from_]


def made(shape: ModelShape, pair: tuple[tuple[int, int], tuple[int, int]]) -> list[Layout]:
    layouts = [Layout(tensor=t, pipeline=p) for t, p in pair]
    for layout in layouts:
        try:
            check_layout(layout, shape, flag="--any")
        except LayoutError:
            assume(False)  # the model cannot take it: not our case
    return layouts


def page(block: int, layer: int, head: int) -> int:
    """What the one word of a page holds: another number for each page, and never 0."""
    return 1 + block + 100 * (layer + 100 * head)


class Ranks:
    """The ranks of one engine, with a pool each."""

    def __init__(self, role: Role, folder: Path, shape: ModelShape, layouts: list[Layout]) -> None:
        engine = EngineSettings(
            role=role,
            folder=folder,
            server_pid=os.getpid(),
            prefill=layouts[0],
            decode=layouts[1],
            shape=shape,
            weights=WeightsMode.SHARED,
            arena_bytes=(),
            block_size=1,
            page_bytes=8,
            num_buffer_blocks=NUM_BLOCKS,
            cores=(),
            verify_kv=False,
        )
        self.shards = place_kv(engine.layout, shape)
        self.pages = [Pages(engine, rank) for rank in range(len(self.shards))]
        self.pools = [
            {
                layer: torch.zeros(NUM_BLOCKS, len(shard.heads), 1, 1, dtype=torch.int64)
                for layer in range(shard.layers.start, shard.layers.stop)
            }
            for shard in self.shards
        ]
        for pages, pools in zip(self.pages, self.pools, strict=True):
            pages.register({name(layer): pool for layer, pool in pools.items()})

    def each(self) -> list[tuple[int, int, int, torch.Tensor]]:
        """Each rank's (layer, head) with that head's place in the layer's pool."""
        return [
            (rank, layer, shard.heads.start + i, pool[:, i, 0, 0])
            for rank, shard in enumerate(self.shards)
            for layer, pool in self.pools[rank].items()
            for i in range(len(shard.heads))
        ]


def name(layer: int) -> str:
    return f"model.layers.{layer}.self_attn.attn"


# Two ranks hold the one KV head, and only the first of them may write it.
REPLICATED = ModelShape(num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8)


@example(shape=REPLICATED, pair=((2, 1), (1, 2)), saved=(0, 1), via=(2, 3), loaded=(3, 1))
@settings(deadline=None)
@given(SHAPES, st.sampled_from(PAIRS), BLOCKS, BLOCKS, BLOCKS)
def test_a_reshard_brings_each_new_owner_each_of_its_pages_once(
    shape: ModelShape,
    pair: tuple[tuple[int, int], tuple[int, int]],
    saved: tuple[int, ...],
    via: tuple[int, ...],
    loaded: tuple[int, ...],
) -> None:
    layouts = made(shape, pair)
    count = min(map(len, (saved, via, loaded)))
    saved, via, loaded = saved[:count], via[:count], loaded[:count]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_pages, "current_device", AddingDevice)
        path = Path(folder)
        create_buffer(path / "kv-buffer", NUM_BLOCKS, shape.num_layers * shape.num_kv_heads * 8)
        before, after = (Ranks(role, path, shape, layouts) for role in (Role.PREFILL, Role.DECODE))
        for _, layer, head, pool in before.each():
            pool[list(saved)] = torch.tensor([page(i, layer, head) for i in range(count)])
        out = BlockCopy(request_id="r", buffer_blocks=via, pool_blocks=saved)
        for pages, pools in zip(before.pages, before.pools, strict=True):
            for layer in pools:
                pages.save(name(layer), [out])
        for pages in after.pages:
            pages._load(BlockCopy(request_id="r", buffer_blocks=via, pool_blocks=loaded))
        for _, layer, head, pool in after.each():
            expected = torch.zeros(NUM_BLOCKS, dtype=torch.int64)
            expected[list(loaded)] = torch.tensor([page(i, layer, head) for i in range(count)])
            assert torch.equal(pool, expected)
