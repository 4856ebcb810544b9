"""Odd figures in files are refused at the edge, in one short line."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seesaw_core.errors import InputError
from seesaw_core.planner.accelerators import builtin_catalogue, read_catalogue
from seesaw_core.planner.choose import PlanRequest, make_plan
from seesaw_core.planner.model_configs import describe_model
from seesaw_core.planner.profiles import Profile, read_profile
from seesaw_core.planner.workloads import Request, summarise
from support.public_configs import (
    DEEPSEEK_V4_FLASH,
    DEEPSEEK_V32,
    GEMMA_4_26B,
    KIMI_K3,
    MIMO_V2_FLASH,
    MINIMAX_M3,
    NEMOTRON_3_SUPER,
    NEMOTRON_SUPER_49B,
    QWEN35_35B,
)

_CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "vocab_size": 1000,
    "num_attention_heads": 8,
    "num_hidden_layers": 4,
}
_DEVICE = {
    "name": '"X"',
    "memory_gib": "24",
    "memory_gb_per_s": "300",
    "tflops_16": "100",
    "host_link": '"PCIe-4"',
    "peer_link": '"PCIe-4"',
}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 10**310),
        ("hidden_size", 5 * 10**162),
        ("num_hidden_layers", 10**30),
        ("num_hidden_layers", 10**6),
        pytest.param("num_hidden_layers", 16**5000, id="layers of 6,000 digits"),
    ],
)
def test_a_config_with_an_endless_count_is_refused(field: str, value: int) -> None:
    with pytest.raises(InputError, match=f"{field}=.* from 1 to") as refused:
        describe_model(_CONFIG | {field: value}, name="m")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layer_overhead_us", 10**400),
        ("compute_share", 1e-300),
        ("step_overhead_ms", 1e308),
        ("name", ["x"]),
    ],
)
def test_a_profile_with_an_odd_value_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{field}="):
        read_profile(json.dumps({field: value}), source="p.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memory_gib", "9" * 400),
        ("memory_gb_per_s", "1e-308"),
        ("tflops_16", "1e308"),
        ("domain", "9" * 5000),
    ],
)
def test_an_accelerator_with_an_odd_value_is_refused(field: str, value: str) -> None:
    lines = [f"{name} = {each}" for name, each in (_DEVICE | {field: value}).items()]
    with pytest.raises(InputError) as refused:
        read_catalogue(
            "\n".join(["[[accelerator]]", *lines]), source="a.toml", extends=builtin_catalogue()
        )
    assert len(str(refused.value)) < 400


_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 400).map(lambda power: int(10**power)),
    st.floats(),
    st.text(max_size=80),
    st.lists(st.integers(0, 3), max_size=3),
)
_GPTQ = {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
_FEW = settings(max_examples=60, deadline=None)


@_FEW
@given(
    changes=st.dictionaries(
        st.sampled_from([*_CONFIG, "head_dim", "num_key_value_heads", "num_experts", "moe_topk"]),
        _ODD,
        max_size=3,
    ),
    quantized=st.booleans(),
)
def test_any_config_is_refused_or_planned(changes: dict[str, Any], quantized: bool) -> None:
    config = _CONFIG | (_GPTQ if quantized else {}) | changes
    _plan(lambda: {"model": describe_model(config, name="m")})


_OTHERS = [
    *(DEEPSEEK_V32, DEEPSEEK_V4_FLASH, KIMI_K3, QWEN35_35B, NEMOTRON_3_SUPER),
    *(NEMOTRON_SUPER_49B, GEMMA_4_26B, MIMO_V2_FLASH, MINIMAX_M3),
]


@_FEW
@given(data=st.data())
def test_any_config_with_layers_of_other_kinds_is_refused_or_planned(data: st.DataObject) -> None:
    config = data.draw(st.sampled_from(_OTHERS))
    part = config.get("text_config", config)
    changes = data.draw(
        st.dictionaries(st.sampled_from(sorted(part)), _ODD, min_size=1, max_size=3)
    )
    config = {**part, "quantization_config": None, **changes}
    large = {"device": builtin_catalogue().accelerator("MI325X"), "num_devices": 8}
    _plan(lambda: {"model": describe_model(config, name="m"), **large})


@_FEW
@given(
    changes=st.dictionaries(
        st.sampled_from([f.name for f in fields(Profile)]), _ODD, min_size=1, max_size=3
    )
)
def test_any_profile_is_refused_or_planned(changes: dict[str, Any]) -> None:
    _plan(lambda: {"profile": read_profile(json.dumps(changes), source="p.json")})


@_FEW
@given(
    changes=st.dictionaries(
        st.sampled_from([*_DEVICE, "domain", "tflops_8"]),
        st.one_of(st.integers().map(str), st.floats().map(str), st.just("9" * 5000)),
        max_size=2,
    )
)
def test_any_accelerator_is_refused_or_planned(changes: dict[str, str]) -> None:
    lines = [f"{name} = {each}" for name, each in (_DEVICE | changes).items()]
    text = "\n".join(["[[accelerator]]", *lines])
    _plan(
        lambda: {
            "device": read_catalogue(
                text, source="a.toml", extends=builtin_catalogue()
            ).accelerator("X")
        }
    )


def _plan(read: Callable[[], dict[str, Any]]) -> None:
    """Read a part of the question and plan. Errors other than our own fail the test."""
    question = {
        "model": describe_model(_CONFIG, name="m"),
        "device": builtin_catalogue().accelerator("L4"),
        "num_devices": 4,
        "workload": summarise([Request(arrival_s=0.0, prompt_tokens=300, output_tokens=50)]),
    }
    with suppress(InputError):
        make_plan(PlanRequest(**{**question, **read()}))
