"""Layouts are refused with a message that names the value and the fix."""

import pytest

from seesaw_core.errors import LayoutError
from seesaw_core.layouts import Coordinate, Layout, ModelShape, check_layout, check_pair

SHAPE = ModelShape(num_layers=6, num_heads=12, num_kv_heads=4, head_dim=64)


@pytest.mark.parametrize(
    ("layout", "named"),
    [
        pytest.param(
            Layout(tensor=5),
            ("--prefill-tensor-parallel-size=5", "12 attention heads", "[1, 2, 4, 12]"),
            id="heads not divisible",
        ),
        pytest.param(
            Layout(tensor=6),
            ("--prefill-tensor-parallel-size=6", "4 KV heads", "[1, 2, 4, 12]"),
            id="KV heads neither divided nor replicated",
        ),
        pytest.param(
            Layout(pipeline=7),
            ("--prefill-pipeline-parallel-size=7", "6 layers", "at most 6"),
            id="more stages than layers",
        ),
    ],
)
def test_a_layout_that_the_model_cannot_take_is_refused_with_the_fix(
    layout: Layout, named: tuple[str, ...]
) -> None:
    with pytest.raises(LayoutError) as refused:
        check_layout(layout, SHAPE, flag="--prefill")
    assert [part for part in named if part not in str(refused.value)] == []


@pytest.mark.parametrize("tensor", [1, 2, 4, 12])
def test_every_size_that_a_message_recommends_is_accepted(tensor: int) -> None:
    check_layout(Layout(tensor=tensor, pipeline=6), SHAPE, flag="--decode")


@pytest.mark.parametrize(
    ("prefill", "decode", "named"),
    [
        pytest.param(
            Layout(data=2, pipeline=2),
            Layout(tensor=4),
            ("D2P2", "T4", "data parallelism", "give both the same"),
            id="data parallelism differs",
        ),
        pytest.param(
            Layout(pipeline=2),
            Layout(tensor=4),
            ("P2 uses 2 devices", "T4 uses 4", "must be equal"),
            id="device counts differ",
        ),
        pytest.param(
            Layout(tensor=4), Layout(tensor=5), ("--decode-tensor",), id="decode layout unfit"
        ),
        pytest.param(
            Layout(tensor=5), Layout(tensor=4), ("--prefill-tensor",), id="prefill layout unfit"
        ),
    ],
)
def test_a_pair_that_cannot_share_devices_is_refused_with_the_fix(
    prefill: Layout, decode: Layout, named: tuple[str, ...]
) -> None:
    with pytest.raises(LayoutError) as refused:
        check_pair(prefill, decode, SHAPE)
    assert [part for part in named if part not in str(refused.value)] == []


def test_a_pair_on_the_same_devices_is_accepted() -> None:
    check_pair(Layout(pipeline=4), Layout(tensor=2, pipeline=2), SHAPE)


@pytest.mark.parametrize("degree", ["data", "tensor", "pipeline"])
def test_a_degree_below_one_is_refused_by_name(degree: str) -> None:
    with pytest.raises(LayoutError, match=f"{degree} parallel size must be at least 1, got 0"):
        Layout(**{degree: 0})


def test_ranks_are_data_major_then_pipeline_then_tensor() -> None:
    places = dict(Layout(data=2, pipeline=3, tensor=2).ranks())
    assert places[0] == Coordinate(data=0, pipeline=0, tensor=0)
    assert places[1] == Coordinate(data=0, pipeline=0, tensor=1)
    assert places[2] == Coordinate(data=0, pipeline=1, tensor=0)
    assert places[11] == Coordinate(data=1, pipeline=2, tensor=1)
    with pytest.raises(LayoutError, match=r"ranks 0\.\.11, not 12"):
        Layout(data=2, pipeline=3, tensor=2).coordinate(12)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        (Layout(), "T1"),
        (Layout(pipeline=4), "P4"),
        (Layout(data=2, tensor=4, pipeline=2), "D2T4P2"),
    ],
)
def test_a_layout_is_written_as_in_the_paper(layout: Layout, name: str) -> None:
    assert str(layout) == name
