"""Models whose layers differ are read from public configs, and counted kind by kind."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from seesaw_core.errors import ModelError
from seesaw_core.layouts import Layout, misfit
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.choose import PlanRequest, make_plan
from seesaw_core.planner.costs import MicroBatch, StepCosts
from seesaw_core.planner.model_configs import describe_model
from seesaw_core.planner.models import Arithmetic, Model
from seesaw_core.planner.profiles import Profile
from seesaw_core.planner.workloads import Workload
from support.public_configs import (
    DEEPSEEK_V3,
    DEEPSEEK_V4_FLASH,
    DEEPSEEK_V32,
    GEMMA_4_26B,
    GLM_52,
    GPT_OSS_20B,
    KIMI_K3,
    MIMO_V2_FLASH,
    MINIMAX_M3,
    NEMOTRON_3_SUPER,
    NEMOTRON_H_56B,
    NEMOTRON_SUPER_49B,
    QWEN35_27B,
    QWEN35_35B,
    STEP_37_FLASH,
    Config,
)

H200 = builtin_catalogue().accelerator("H200")


@pytest.mark.parametrize(
    ("config", "published"),
    [
        pytest.param(DEEPSEEK_V3, 671e9, id="DeepSeek-V3, its report"),
        pytest.param(DEEPSEEK_V4_FLASH, 284e9, id="DeepSeek-V4-Flash, its card"),
        pytest.param(GLM_52, 744e9, id="GLM-5.2, the card of GLM-5"),
        pytest.param(KIMI_K3, 2.8e12, id="Kimi K3, its card"),
        pytest.param(QWEN35_27B, 27e9, id="Qwen3.5-27B, its name"),
        pytest.param(QWEN35_35B, 34.66e9, id="Qwen3.5-35B-A3B, without its vision part"),
        pytest.param(NEMOTRON_H_56B, 56.3e9, id="Nemotron-H-56B"),
        pytest.param(NEMOTRON_3_SUPER, 120.6e9, id="Nemotron 3 Super, its report"),
        pytest.param(NEMOTRON_SUPER_49B, 49.87e9, id="Llama-3.3-Nemotron-Super-49B, its weights"),
        pytest.param(GEMMA_4_26B, 25.2e9, id="Gemma 4 26B-A4B, its card"),
        pytest.param(MIMO_V2_FLASH, 309e9, id="MiMo-V2-Flash, its card"),
        pytest.param(GPT_OSS_20B, 20.91e9, id="gpt-oss-20b, arXiv 2508.10925"),
        pytest.param(STEP_37_FLASH, 196.81e9, id="Step-3.5-Flash, its card"),
    ],
)
def test_parameters_are_within_one_percent_of_the_published_ones(
    config: Config, published: float
) -> None:
    model = describe_model(config, name="m")
    assert model.num_params == pytest.approx(published, rel=0.01)
    vague = ("was not checked", "not understood", "none of the layers' matrices")
    assert not any(word in note for note in model.assumptions for word in vague)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(config, id=str(config["model_type"]))
        for config in (
            *(DEEPSEEK_V3, DEEPSEEK_V32, DEEPSEEK_V4_FLASH, GLM_52, QWEN35_27B, QWEN35_35B),
            *(NEMOTRON_H_56B, NEMOTRON_3_SUPER, MIMO_V2_FLASH, GPT_OSS_20B),
        )
    ],
)
def test_parameters_are_those_of_transformers_own_modules(config: Config) -> None:
    given = {name: v for name, v in config.items() if name != "quantization_config"}
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(
            CONFIG_MAPPING[given["model_type"]].from_dict(given)
        )
    matrices = sum(p.numel() for p in built.parameters() if p.dim() > 1)
    assert describe_model(config, name="m").num_params == pytest.approx(matrices, rel=1e-3)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        pytest.param(DEEPSEEK_V3, "its latent attention has no KV heads to divide", id="latent"),
        pytest.param(QWEN35_27B, "it keeps recurrent state beside its KV", id="linear attention"),
        pytest.param(NEMOTRON_H_56B, "it keeps recurrent state beside its KV", id="Mamba"),
        pytest.param(GEMMA_4_26B, "its layers keep KV of different shapes", id="wider heads"),
        pytest.param(NEMOTRON_SUPER_49B, "its layers keep KV of different shapes", id="no heads"),
        pytest.param(MINIMAX_M3, "its sparse attention keeps an index beside its KV", id="index"),
        pytest.param(
            STEP_37_FLASH | {"quantization_config": {"quant_method": "bitsandbytes"}},
            "bitsandbytes weights cannot be laid out for another layout",
            id="weights that stay where they are",
        ),
    ],
)
def test_what_a_worker_cannot_reshard_is_planned_static_and_told_by_name(
    config: Config, reason: str
) -> None:
    plan = make_plan(request(describe_model(config, name="m"), num_devices=8))
    assert plan.best.is_static
    assert not plan.pairs
    assert (
        plan.reason
        == f"re-sharding cannot serve this model, since {reason}: the best static layout"
    )


def test_layers_with_a_window_do_not_keep_a_worker_from_resharding() -> None:
    assert make_plan(request(describe_model(GPT_OSS_20B, name="m"), num_devices=4)).pairs


def test_layers_with_a_window_keep_its_tokens_alone_unless_the_worker_reshards() -> None:
    model = describe_model(GPT_OSS_20B, name="m")
    costs = StepCosts(model, H200, Layout(), Profile())
    limits = {"step_tokens": 2048, "max_requests": 256}
    whole = costs.kv_capacity_tokens(**limits)
    windowed = costs.kv_capacity_tokens(**limits, context=12_800.0)
    assert windowed == pytest.approx(whole * 2 / (1 + 128 / 12_800), rel=1e-6)
    full = replace(model, kinds=(model.kinds[1],), pattern=(0,) * 24)
    step = MicroBatch(decode_requests=64, decode_context=64 * 12_800.0)
    read = [
        StepCosts(each, H200, Layout(), Profile())
        .model.mean_layer()
        .decode_read_bytes(step.decode_requests, step.decode_context)
        for each in (model, full)
    ]
    assert read[0] == pytest.approx(read[1] * (1 + 128 / 12_800) / 2)


def test_every_rank_keeps_latent_keys_whole() -> None:
    model = describe_model(DEEPSEEK_V3, name="m")
    per_token = [model.mean_layer(tensor).kv_bytes_per_token for tensor in (1, 8)]
    assert per_token == [576 * 2, 576 * 2]
    assert misfit(Layout(tensor=16), model.shape) is None


def test_an_index_bounds_what_a_token_reads_and_not_what_is_kept() -> None:
    plain, chosen = (describe_model(c, name="m").mean_layer() for c in (DEEPSEEK_V3, DEEPSEEK_V32))
    assert chosen.kv_bytes_per_token == plain.kv_bytes_per_token + 132
    short, long = (chosen.decode_read_bytes(1, context) for context in (2048, 102_400))
    assert short == 2048 * (1152 + 132)
    assert long == 2048 * 1152 + 102_400 * 132


def test_layers_that_share_an_index_have_none_of_their_own() -> None:
    model = describe_model(GLM_52, name="m")
    caches = {cache.elements: number for cache, number, _ in model.mean_layer().caches}
    assert caches[576] == 1
    assert caches[132] == pytest.approx(21 / 78)


def test_compressed_keys_take_a_share_of_a_token_each() -> None:
    model = describe_model(DEEPSEEK_V4_FLASH, name="m")
    entry = 584
    per_token = 43 * entry + 21 * (entry + 132) / 4 + 20 * entry / 128
    assert model.kv_bytes_per_token == pytest.approx(per_token)
    read = model.mean_layer().decode_read_bytes(1, 1_000_000) * 43
    indexed = 512 * entry + 132 * 250_000
    assert read == pytest.approx(43 * 128 * entry + 21 * indexed + 20 * entry * 1_000_000 / 128)


def test_a_state_takes_room_for_each_request_however_short() -> None:
    model = describe_model(QWEN35_27B, name="m")
    state = 48 * 128 * 128 * 4 + (2 * 16 * 128 + 48 * 128) * 3 * 2
    assert model.state_bytes == 48 * state
    costs = StepCosts(model, H200, Layout(), Profile())
    room = {
        context: costs.kv_capacity_tokens(step_tokens=2048, max_requests=256, context=context)
        for context in (1_000.0, 100_000.0)
    }
    per_token = model.kv_bytes_per_token
    for context, tokens in room.items():
        assert tokens * (per_token + model.state_bytes / context) == pytest.approx(
            room[1_000.0] * (per_token + model.state_bytes / 1_000), rel=1e-4
        )


def test_heads_of_linear_attention_must_be_divided_too() -> None:
    shape = describe_model(QWEN35_27B, name="m").shape
    assert misfit(Layout(tensor=8), shape) is None
    unfit = misfit(Layout(tensor=24), shape)
    assert unfit is not None
    assert "16 heads of another kind" in unfit.reason


def test_each_stage_holds_its_own_layers() -> None:
    """The first of two stages has wide MLPs and attention alone."""
    model = describe_model(NEMOTRON_SUPER_49B, name="m")
    costs = StepCosts(model, H200, Layout(pipeline=2), Profile())
    widest = 40 * (model.hidden * 128 * 2 * (64 + 8) + 3 * model.hidden * 28672)
    assert costs.weight_bytes == pytest.approx(2 * (widest + model.head_params), rel=1e-3)


@pytest.mark.parametrize(
    ("quantization", "expected_bytes", "arithmetic"),
    [
        pytest.param(
            {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["*self_attn*"]}},
            (4.5 / 8, 2.0),
            Arithmetic.FP4,
            id="hf_quant_config.json",
        ),
        pytest.param(
            {"quant_algo": "FP8", "kv_cache_scheme": "FP8", "producer": {"name": "modelopt"}},
            (1.0, 1.0),
            Arithmetic.FP8,
            id="ModelOpt without a quant_method",
        ),
        pytest.param(
            {
                "quant_method": "modelopt",
                "quant_algo": "MIXED_PRECISION",
                "quantized_layers": {
                    f"model.layers.{n}.mlp.experts.{e}.{m}_proj": {"quant_algo": "NVFP4"}
                    for n in range(3, 61)
                    for e in (0, 1)
                    for m in ("gate", "up", "down")
                },
            },
            (4.5 / 8, 2.0),
            Arithmetic.FP4,
            id="the algorithm of each module",
        ),
        pytest.param(
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {
                        "targets": ["Linear"],
                        "weights": {"num_bits": 4, "group_size": 32, "type": "float"},
                    }
                },
                "ignore": ["re:.*self_attn.*"],
            },
            (4.25 / 8, 2.0),
            Arithmetic.WIDE,
            id="MXFP4",
        ),
    ],
)
def test_experts_and_attention_have_the_widths_that_the_checkpoint_gives_them(
    quantization: dict[str, Any], expected_bytes: tuple[float, float], arithmetic: Arithmetic
) -> None:
    model = describe_model(DEEPSEEK_V3 | {"quantization_config": quantization}, name="m")
    layer = model.kinds[model.pattern[10]]
    (experts,) = {p.bytes_each for p in layer.mlp if p.copies == 256}
    assert layer.mixer is not None
    (attention,) = {p.bytes_each for p in layer.mixer.products}
    assert (experts, attention) == pytest.approx(expected_bytes)
    assert model.arithmetic is arithmetic


def test_a_pattern_for_other_modules_of_the_same_number_matches_no_layer() -> None:
    """Layers that predict further tokens are called mtp.layers.0, and so on."""
    wide = {"quant_method": "fp8", "modules_to_not_convert": ["mtp.layers.0*", "model.layers.61*"]}
    model = describe_model(DEEPSEEK_V3 | {"quantization_config": wide}, name="m")
    assert model.weight_bytes == 1.0
    assert not any("none of the layers' matrices" in note for note in model.assumptions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantization_config": {"producer": {}, "quantization": {}}}, "lacks quant_algo"),
        (
            {"quantization_config": {"quant_algo": "MIXED_PRECISION"}},
            "quant_algo=MIXED_PRECISION needs quantized_layers",
        ),
        (
            {
                "quantization_config": {
                    "quant_algo": "MIXED_PRECISION",
                    "quantized_layers": {"a": 1},
                }
            },
            "'a' must have a quant_algo",
        ),
        ({"quantization_config": {"quant_algo": "INT1"}}, "quant_algo='INT1' is not described"),
        ({"expert_dtype": "fp2"}, "expert_dtype='fp2' is not described; described are fp4"),
        ({"kv_lora_rank": "x"}, "kv_lora_rank='x' must be a whole number"),
        ({"qk_rope_head_dim": None}, "lacks qk_rope_head_dim"),
        ({"index_topk": 2048}, "lacks index_n_heads"),
        ({"indexer_types": ["full"], "index_topk": 8}, "indexer_types has 1 values; give one for"),
        ({"mlp_layer_types": ["dense"]}, "mlp_layer_types has 1 values"),
        ({"compress_ratios": [7] * 61}, "compress_ratios=7 is not described"),
        ({"compress_ratios": [4]}, "compress_ratios has 1 values; give one for each of the 61"),
        ({"linear_attn_config": "x"}, "linear_attn_config='x' must be an object"),
        ({"linear_attn_config": {"a": 1}}, "use_full_rank_gate is not true"),
        ({"block_configs": [{"attention": 5}] * 61}, r"block_configs\[0\] must have attention"),
        (
            {"block_configs": [{"attention": {"no_op": True}, "ffn": {"ffn_mult": -1}}] * 61},
            "ffn_mult=-1 must be a number above 0",
        ),
    ],
)
def test_what_a_config_lacks_or_has_wrong_is_named_in_one_line(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        describe_model(DEEPSEEK_V3 | change, name="m")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def request(model: Model, *, num_devices: int) -> PlanRequest:
    return PlanRequest(
        model=model,
        device=H200,
        num_devices=num_devices,
        workload=Workload(prompt_tokens=1000, output_tokens=200, longest_tokens=2000),
    )


@pytest.mark.parametrize("config", [DEEPSEEK_V3, DEEPSEEK_V4_FLASH, MINIMAX_M3])
def test_a_kind_of_layer_that_a_family_does_not_have_is_refused(config: Config) -> None:
    """Beside latent attention, layers with a state would be counted as layers with keys."""
    kinds = ["linear_attention", "full_attention"] * 100
    with pytest.raises(ModelError, match="layer_types='linear_attention' is not described"):
        describe_model({**config, "layer_types": kinds}, name="m")


def test_layers_named_one_by_one_are_bounded_as_those_that_are_counted() -> None:
    config = {k: v for k, v in NEMOTRON_H_56B.items() if k != "num_hidden_layers"}
    named = {**config, "layers_block_type": ["attention"] * 500_000}
    with pytest.raises(ModelError, match="layers_block_type names 500,000 layers; at most"):
        describe_model(named, name="m")


def test_layers_without_any_matrix_take_no_time() -> None:
    blocks = [{"attention": {"no_op": True}, "ffn": {"no_op": True}}] * 80
    config = {**NEMOTRON_SUPER_49B, "block_configs": blocks}
    costs = StepCosts(describe_model(config, name="m"), H200, Layout(), Profile())
    assert costs.step_s(MicroBatch(decode_requests=1, decode_context=10)) > 0
