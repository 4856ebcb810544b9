"""The cost model moves the way the physics does. Figures by hand where they are easy."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesaw_core.layouts import Layout, ModelShape
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.costs import MicroBatch, StepCosts
from seesaw_core.planner.models import Arithmetic, dense_model
from seesaw_core.planner.profiles import Profile
from seesaw_core.units import GIB

MODEL = dense_model(
    name="m",
    shape=ModelShape(num_layers=16, num_heads=32, num_kv_heads=8, head_dim=128),
    hidden=4096,
    intermediate=14336,
    vocab=32000,
)
PLAIN = Profile(
    measured_kernels=False,
    compute_share=1.0,
    attention_share=1.0,
    memory_share=1.0,
    host_share=1.0,
    pcie_all_reduce_share=1.0,
    nvlink_all_reduce_share=1.0,
    pcie_fabric_links=1e9,
    all_reduce_latency_us=0.0,
    send_latency_us=0.0,
    layer_overhead_us=0.0,
    step_overhead_ms=0.0,
    request_overhead_us=0.0,
    transition_overhead_ms=0.0,
)
HOST_L4 = builtin_catalogue().accelerator("L4")
L4 = replace(HOST_L4, peer_link=builtin_catalogue().interconnects["pcie4x16"])
H100 = builtin_catalogue().accelerator("H100-SXM")

layouts = st.builds(
    Layout, tensor=st.sampled_from([1, 2, 4, 8]), pipeline=st.sampled_from([1, 2, 4, 8])
)


def costs(layout: Layout, profile: Profile = PLAIN) -> StepCosts:
    return StepCosts(MODEL, L4, layout, profile)


def test_a_small_decode_batch_costs_the_reading_of_the_weights() -> None:
    step_s = costs(Layout()).step_s(MicroBatch(decode_requests=1, decode_context=1))
    read = MODEL.total_bytes - MODEL.head_params * 2  # the embedding is looked up, not read
    assert step_s == pytest.approx(read / 300e9, rel=1e-3)


@pytest.mark.parametrize(("device", "gain"), [("L40S", 733 / 362), ("A100-SXM-80", 1.0)])
def test_fp8_models_are_faster_only_where_there_is_fp8_arithmetic(device: str, gain: float) -> None:
    accelerator = builtin_catalogue().accelerator(device)
    narrow = replace(MODEL, arithmetic=Arithmetic.FP8)
    wide_s, narrow_s = (
        StepCosts(m, accelerator, Layout(), PLAIN).prefill_s(8192, 0) for m in (MODEL, narrow)
    )
    assert wide_s / narrow_s == pytest.approx(gain, rel=1e-2)


def test_a_large_prefill_costs_its_arithmetic() -> None:
    step_s = costs(Layout()).prefill_s(8192, 8192**2 / 2)
    linear = 2 * 16 * MODEL.layer_params * 8192
    attention = 16 * 4 * 32 * 128 * 8192**2 / 2
    assert step_s == pytest.approx((linear + attention) / 121e12, rel=1e-2)


def test_without_peer_to_peer_all_groups_of_ranks_share_what_the_host_carries() -> None:
    """As fast as on the L40S server of which NCCL's all-reduces were measured."""
    num_bytes = 4096 * 4096 * 2
    for layout, bus in ((Layout(tensor=4), 5.2e9), (Layout(tensor=4, pipeline=2), 2.6e9)):
        kernels = StepCosts(MODEL, HOST_L4, layout, Profile()).kernels
        assert 1.5 * num_bytes / kernels.all_reduce_s(4096) == pytest.approx(bus, rel=0.02)


def test_a_ring_moves_its_share_of_the_bytes_twice() -> None:
    alone, four = (costs(Layout(tensor=t)).prefill_s(4096, 0) for t in (1, 4))
    moved = 2 * 16 * (2 * 3 / 4) * 4096 * 4096 * 2 / 31.5e9
    assert four == pytest.approx(alone / 4 + moved, rel=1e-2)


@given(layout=layouts, tokens=st.integers(1, 8192), more=st.integers(1, 4096))
def test_more_work_never_takes_less_time(layout: Layout, tokens: int, more: int) -> None:
    found = costs(layout, Profile())
    assert found.prefill_s(tokens + more, 0) >= found.prefill_s(tokens, 0)
    decode = MicroBatch(decode_requests=tokens, decode_context=tokens * 10)
    longer = MicroBatch(decode_requests=tokens, decode_context=tokens * 10 + more)
    assert found.step_s(longer) >= found.step_s(decode)


@given(layout=layouts)
def test_weights_are_divided_and_never_lost(layout: Layout) -> None:
    devices = layout.tensor * layout.pipeline
    held = costs(layout).weight_bytes * devices
    assert held >= MODEL.total_bytes - 1
    assert held <= MODEL.total_bytes * 1.5  # the fullest device has a head or an embedding too


def test_kv_heads_are_replicated_once_there_are_more_ranks_than_heads() -> None:
    per_token = [costs(Layout(tensor=t)).kv_bytes_per_token_layer for t in (1, 4, 8, 16)]
    assert per_token == [4096, 1024, 512, 512]


def test_prefill_prefers_pipelines_by_far_over_pcie_and_decode_tensor_parallelism() -> None:
    def better(device_layouts: tuple[StepCosts, StepCosts], batch: MicroBatch) -> bool:
        pipeline, tensor = device_layouts
        return pipeline.step_s(batch) < tensor.step_s(batch)

    prefill = MicroBatch(prefill_tokens=4096, prefill_pairs=4096**2 / 2, sampled=1)
    for device, gains in ((L4, True), (H100, False)):
        pair = tuple(
            StepCosts(MODEL, device, layout, Profile())
            for layout in (Layout(pipeline=4), Layout(tensor=4))
        )
        assert better((pair[0], pair[1]), prefill)
        lead = pair[1].step_s(prefill) / pair[0].step_s(prefill)
        assert (lead > 1.8) is gains
        # A round of decoding takes all four stages one after the other.
        decode = MicroBatch(decode_requests=16, decode_context=16 * 1000)
        quarter = MicroBatch(decode_requests=4, decode_context=4 * 1000)
        assert pair[1].step_s(decode) < 4 * pair[0].step_s(quarter)


def test_what_does_not_fit_has_no_room_left() -> None:
    shape = replace(MODEL.shape, num_layers=160)
    huge = replace(MODEL, shape=shape, pattern=(0,) * 160)
    room = StepCosts(huge, L4, Layout(tensor=2), Profile()).kv_capacity_tokens(
        step_tokens=2048, max_requests=256
    )
    assert room < 0
    fits = costs(Layout(tensor=2), Profile()).kv_capacity_tokens(step_tokens=2048, max_requests=256)
    held = costs(Layout(tensor=2)).weight_bytes + fits * 16 * 2048 * 1.0
    assert held < 0.9 * 22.5 * GIB


def test_a_transition_takes_the_copying_of_a_shard() -> None:
    found = costs(Layout(tensor=4))
    assert found.transition_s() == pytest.approx(found.weight_bytes / 31.5e9)
