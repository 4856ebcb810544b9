"""Every layer and KV head has its one writer, and stages divide the layers evenly."""

from collections import Counter

from hypothesis import assume, given
from hypothesis import strategies as st

from seesaw_core.errors import LayoutError
from seesaw_core.layouts import Layout, ModelShape, check_layout
from seesaw_core.resharding.placement import place_kv, split_layers

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
    for (_, at), shard in zip(layout.ranks(), place_kv(layout, shape), strict=True):
        for layer in range(shard.layers.start, shard.layers.stop):
            for head in range(shard.heads.start, shard.heads.stop):
                writers[at.data, layer, head] += shard.writes
    assert writers == {(d, i, h): 1 for d in range(data) for i, h in pieces(shape)}


@given(st.integers(1, 100), st.integers(1, 16))
def test_stages_follow_each_other_and_differ_by_at_most_one_layer(
    num_layers: int, pipeline: int
) -> None:
    assume(pipeline <= num_layers)
    spans = split_layers(num_layers, pipeline)
    assert [s.start for s in spans] == [0, *(s.stop for s in spans[:-1])]
    assert spans[-1].stop == num_layers
    assert max(map(len, spans)) - min(map(len, spans)) <= 1
