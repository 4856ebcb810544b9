"""Steps whose kernels were measured take as long as public runs of vLLM say."""

import json
from dataclasses import replace
from importlib.resources import files
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seesaw_core.layouts import Layout
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.costs import MicroBatch, StepCosts
from seesaw_core.planner.kernels.datasheet import DatasheetKernels
from seesaw_core.planner.kernels.grids import Curve, grid_of
from seesaw_core.planner.kernels.measured import MeasuredKernels
from seesaw_core.planner.kernels.tables import kernel_tables
from seesaw_core.planner.model_configs import describe_model
from seesaw_core.planner.profiles import Profile, read_profile

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
LLAMA_70B = describe_model(CONFIG, name="Llama-3.1-70B")
LLAMA_70B_FP8 = describe_model(
    CONFIG | {"quantization_config": {"quant_method": "fp8", "activation_scheme": "static"}},
    name="Llama-3.1-70B-FP8",
)
PROFILE = Profile()
# Milliseconds a token of Llama-3.1-70B in FP8 by accelerator, tensor-parallel size and concurrency:
# prompts of 819 to 1,024 tokens and answers of 6,554 to 8,192, of which hardly any step prefills.
# H200 and B200 keep KV in 8 bits.
# Source: InferenceMAX of October 2025, in aiconfigurator-core 0.12 (PyPI), silicon_sample.csv.
RUNS = {
    ("H100-SXM", 4): {4: 11.995, 16: 14.095, 64: 23.407},
    ("H100-SXM", 8): {4: 9.195, 16: 11.584, 64: 16.489},
    ("H200", 1): {4: 22.048, 16: 27.295},
    ("H200", 2): {4: 14.202, 16: 17.180, 64: 26.841},
    ("H200", 4): {4: 9.958, 16: 11.290, 64: 18.464},
    ("H200", 8): {4: 7.929, 16: 9.747, 64: 13.583},
    ("B200", 1): {4: 16.671, 16: 17.893, 64: 24.667},
    ("B200", 2): {4: 10.381, 16: 11.323, 64: 15.677},
    ("B200", 4): {4: 8.400, 16: 8.367, 64: 11.500},
    ("B200", 8): {4: 6.520, 16: 7.035, 64: 10.453},
}
_CONTEXT = 0.9 * (1024 + 8192 / 2)
TABLES = sorted(
    path.name.removesuffix(".json")
    for path in (files("seesaw_core.planner.kernels") / "tables").iterdir()
)


def token_s(device: str, tensor: int, requests: int) -> float:
    model = LLAMA_70B_FP8 if device.startswith("H100") else replace(LLAMA_70B_FP8, kv_bytes=1)
    costs = StepCosts(
        model, builtin_catalogue().accelerator(device), Layout(tensor=tensor), PROFILE
    )
    return costs.step_s(MicroBatch(decode_requests=requests, decode_context=requests * _CONTEXT))


def test_a_decode_step_takes_as_long_as_in_public_runs() -> None:
    errors = {
        (device, tensor): [
            1e3 * token_s(device, tensor, requests) / ms - 1 for requests, ms in runs.items()
        ]
        for (device, tensor), runs in RUNS.items()
    }
    for group, each in errors.items():
        assert abs(mean(each)) < 0.10, group
    assert mean(abs(e) for each in errors.values() for e in each) < 0.06


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_of_an_accelerator_of_the_catalogue_and_names_its_source(name: str) -> None:
    tables = kernel_tables(name)
    assert tables is not None
    assert name in builtin_catalogue().accelerators
    assert tables.source.startswith("aiconfigurator-core 0.12.0")
    assert "bfloat16" in tables.products
    text = (files("seesaw_core.planner.kernels") / "tables" / f"{name}.json").read_text()
    assert len(text) < 40_000
    assert set(json.loads(text)["versions"]) == {"vllm", "nccl"}


@pytest.mark.parametrize("name", TABLES)
@given(
    tokens=st.integers(1, 40_000), more=st.integers(1, 40_000), tensor=st.sampled_from([1, 2, 4, 8])
)
def test_more_tokens_never_take_less_time(name: str, tokens: int, more: int, tensor: int) -> None:
    device = builtin_catalogue().accelerator(name)
    costs = StepCosts(LLAMA_70B, device, Layout(tensor=tensor), PROFILE)
    assert costs.prefill_s(tokens + more, 0) >= costs.prefill_s(tokens, 0)


def test_no_product_is_faster_than_its_weights_can_be_read() -> None:
    """Small ones are in the benchmark, which runs them again and again from the cache."""
    for name in TABLES:
        device = builtin_catalogue().accelerator(name)
        costs = StepCosts(LLAMA_70B_FP8, device, Layout(tensor=8), PROFILE)
        read_s = costs.weight_bytes / device.memory_bytes_per_s
        assert costs.step_s(MicroBatch(decode_requests=1, decode_context=1)) > read_s


@pytest.mark.parametrize("name", TABLES)
def test_beyond_the_measured_sizes_decode_attention_grows_no_faster_than_its_kv(name: str) -> None:
    """The last two points of a table may be in the cache and out of it."""
    model = replace(LLAMA_70B_FP8, kv_bytes=1)
    costs = StepCosts(model, builtin_catalogue().accelerator(name), Layout(), PROFILE)
    for context in (128, 1024, 8192):
        one_s, eight_s = (
            costs.kernels.decode_attention_s(n, float(n * context)) for n in (600, 4800)
        )
        assert eight_s < 8.2 * one_s, context


def test_fused_kernels_move_less_between_the_products() -> None:
    device = builtin_catalogue().accelerator("H100-SXM")
    plain, fused = (
        StepCosts(LLAMA_70B_FP8, device, Layout(), replace(PROFILE, elementwise_share=share))
        for share in (1.0, 0.5)
    )
    assert 0.85 < fused.prefill_s(8192, 0) / plain.prefill_s(8192, 0) < 0.97


@given(low=st.floats(0.1, 10), high=st.floats(0.1, 10), size=st.floats(1, 1e6))
def test_a_curve_passes_its_points_and_lies_between_them(
    low: float, high: float, size: float
) -> None:
    curve = Curve((10.0, 1000.0), (low, high))
    assert curve.at(10.0) == pytest.approx(low)
    assert curve.at(1000.0) == pytest.approx(high)
    if 10 <= size <= 1000:
        assert min(low, high) * 0.999 <= curve.at(size) <= max(low, high) * 1.001
    grid = grid_of([1.0, 4.0], [10.0, 1000.0], [1e6 * low, 1e6 * high] * 2)
    assert grid.at(2.0, size) == pytest.approx(curve.at(size))


def test_a_profile_has_measured_kernels_unless_it_refuses_them() -> None:
    assert read_profile("{}", source="p.json").measured_kernels
    assert not read_profile('{"measured_kernels": false}', source="p.json").measured_kernels
    with pytest.raises(Exception, match=r"p\.json: profile: measured_kernels=1 must be true"):
        read_profile('{"measured_kernels": 1}', source="p.json")


def test_what_was_not_measured_goes_by_data_sheets() -> None:
    for device, profile, kernels in (
        ("H200", Profile(), MeasuredKernels),
        ("H200", Profile(measured_kernels=False), DatasheetKernels),
        ("L4", Profile(), DatasheetKernels),
    ):
        accelerator = builtin_catalogue().accelerator(device)
        costs = StepCosts(LLAMA_70B_FP8, accelerator, Layout(tensor=8), profile)
        assert isinstance(costs.kernels, kernels)
