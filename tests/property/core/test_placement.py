"""Every layer and KV head has its one writer, and reaches each new owner once."""

from collections import Counter

from hypothesis import assume, given
from hypothesis import strategies as st

from seesaw_core.errors import LayoutError
from seesaw_core.layouts import Layout, ModelShape, check_layout
from seesaw_core.resharding.placement import place_kv, plan_kv_reshard, split_layers

DEGREES = st.sampled_from([1, 2, 3, 4, 8])
REPLICAS = st.sampled_from([1, 2])
SHAPES = st.builds(
    lambda layers, kv_heads, group: ModelShape(
        num_layers=layers, num_heads=kv_heads * group, num_kv_heads=kv_heads, head_dim=8
    ),
    st.integers(1, 19),
    st.sampled_from([1, 2, 3, 4, 6, 8]),
    st.sampled_from([1, 2, 3, 4, 8]),
)


def layout_for(shape: ModelShape, data: int, tensor: int, pipeline: int) -> Layout:
    layout = Layout(data=data, tensor=tensor, pipeline=pipeline)
    try:
        check_layout(layout, shape, flag="--any")
    except LayoutError:
        assume(False)  # the model cannot take it: not our case
    return layout


def pieces(shape: ModelShape) -> list[tuple[int, int]]:
    return [(i, h) for i in range(shape.num_layers) for h in range(shape.num_kv_heads)]


@given(SHAPES, REPLICAS, DEGREES, DEGREES)
def test_every_piece_of_kv_has_exactly_one_writer_in_each_replica(
    shape: ModelShape, data: int, tensor: int, pipeline: int
) -> None:
    layout = layout_for(shape, data, tensor, pipeline)
    writers: Counter[tuple[int, int, int]] = Counter()
    for shard in place_kv(layout, shape):
        at = layout.coordinate(shard.rank)
        for layer in range(shard.layers.start, shard.layers.stop):
            for head in range(shard.heads.start, shard.heads.stop):
                writers[at.data, layer, head] += shard.writes
    assert writers == {(d, i, h): 1 for d in range(data) for i, h in pieces(shape)}


@given(SHAPES, REPLICAS, DEGREES, DEGREES, DEGREES, DEGREES)
def test_a_reshard_brings_each_new_owner_each_of_its_pieces_once(
    shape: ModelShape, data: int, tensor_1: int, pipeline_1: int, tensor_2: int, pipeline_2: int
) -> None:
    before = layout_for(shape, data, tensor_1, pipeline_1)
    after = layout_for(shape, data, tensor_2, pipeline_2)
    sources = {s.rank: s for s in place_kv(before, shape)}
    read: Counter[tuple[int, int, int]] = Counter()
    for move in plan_kv_reshard(before, after, shape):
        source = sources[move.source]
        assert source.writes
        assert before.coordinate(move.source).data == after.coordinate(move.target).data
        for layer in range(move.layers.start, move.layers.stop):
            for head in range(move.heads.start, move.heads.stop):
                assert layer in source.layers
                assert head in source.heads
                read[move.target, layer, head] += 1
    owned = {
        (shard.rank, layer, head)
        for shard in place_kv(after, shape)
        for layer, head in pieces(shape)
        if layer in shard.layers and head in shard.heads
    }
    assert read == dict.fromkeys(owned, 1)


@given(st.integers(1, 100), st.integers(1, 16))
def test_stages_follow_each_other_and_differ_by_at_most_one_layer(
    num_layers: int, pipeline: int
) -> None:
    assume(pipeline <= num_layers)
    spans = split_layers(num_layers, pipeline)
    assert [s.start for s in spans] == [0, *(s.stop for s in spans[:-1])]
    assert spans[-1].stop == num_layers
    assert max(map(len, spans)) - min(map(len, spans)) <= 1
