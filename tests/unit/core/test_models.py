"""Models are read from the configs that are in the wild, and counted right."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from seesaw_core.errors import ModelError
from seesaw_core.planner.model_configs import GATED, LEFT_OUT, UNGATED, describe_model

LLAMA_70B: dict[str, Any] = {
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 32000,
    "torch_dtype": "float16",
}
KNOWN: dict[str, Any] = {"model_type": "llama", "max_position_embeddings": 4096}
MIXTRAL: dict[str, Any] = LLAMA_70B | {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "intermediate_size": 14336,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
QWEN_MOE: dict[str, Any] = {
    "num_hidden_layers": 48,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "vocab_size": 151936,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
GEMMA: dict[str, Any] = {
    "model_type": "gemma2",
    "num_hidden_layers": 42,
    "hidden_size": 3584,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
    "intermediate_size": 14336,
    "vocab_size": 256000,
}
LLAMA_8B: dict[str, Any] = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}
FALCON_7B: dict[str, Any] = {
    "model_type": "falcon",
    "num_hidden_layers": 32,
    "hidden_size": 4544,
    "num_attention_heads": 71,
    "multi_query": True,
    "vocab_size": 65024,
}
# No model as transformers' defaults make it: they lack what its configs on the hub have.
INCOMPLETE = {"nemotron", "ministral"}


@pytest.mark.parametrize(
    ("config", "published"),
    [
        pytest.param(LLAMA_70B, 68_976_648_192, id="Llama 2 70B"),
        pytest.param(LLAMA_8B, 8_030_261_248, id="Llama 3 8B"),
        pytest.param(MIXTRAL, 46_702_792_704, id="Mixtral 8x7B"),
        pytest.param(QWEN_MOE, 30_532_122_624, id="Qwen3 30B-A3B"),
        pytest.param(GEMMA, 9_241_705_984, id="Gemma 2 9B, tied"),
        pytest.param(FALCON_7B, 6_921_720_704, id="Falcon 7B, one KV head, no gate"),
        pytest.param({"text_config": LLAMA_8B}, 8_030_261_248, id="the text part of several"),
    ],
)
def test_parameters_are_counted_to_a_thousandth(config: dict[str, Any], published: int) -> None:
    assert describe_model(config, name="m").num_params == pytest.approx(published, rel=1e-3)


@pytest.mark.parametrize("model_type", sorted((GATED | UNGATED) - INCOMPLETE))
def test_every_type_that_is_called_checked_counts_what_transformers_builds(
    model_type: str,
) -> None:
    name = f"{model_type}_text" if model_type in {"gemma3", "llama4"} else model_type
    config = CONFIG_MAPPING[name]()
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config)
    built.tie_weights()
    matrices = sum(p.numel() for n, p in built.named_parameters() if is_counted(n, p))
    left_out = ("dtype", "tie_word_embeddings")  # as on the hub, where it is the default
    fields = {name: value for name, value in config.to_dict().items() if name not in left_out}
    model = describe_model(fields, name="m")
    assert model.num_params == pytest.approx(matrices, rel=1e-3)
    vague = ("model_type", "not understood")
    assert not any(word in assumed for assumed in model.assumptions for word in vague)


@pytest.mark.parametrize("model_type", LEFT_OUT)
def test_what_checkpoints_leave_out_is_what_transformers_fills_in(model_type: str) -> None:
    defaults = CONFIG_MAPPING[f"{model_type}_text"]().to_dict()
    assert {name: defaults[name] for name in LEFT_OUT[model_type]} == LEFT_OUT[model_type]


def is_counted(name: str, parameter: torch.Tensor) -> bool:
    """All but norms, biases and learned positions."""
    return parameter.dim() > 1 and not any(p in name for p in ("wpe", "embed_positions"))


def test_a_token_meets_only_its_own_experts_and_a_large_batch_all_of_them() -> None:
    model = describe_model(QWEN_MOE, name="m")
    active = 48 * model.params_per_token + 2 * model.head_params
    assert active == pytest.approx(3.3e9, rel=0.03)  # the A3B of its name
    assert model.mlp_params(1) == pytest.approx(model.mlp_params() * 8 / 128, rel=0.01)
    assert model.mlp_params(4096) == pytest.approx(model.mlp_params(), rel=1e-6)


@pytest.mark.parametrize(
    ("quantization", "layer_bytes", "arithmetic"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, 0.52, "16 bits"),
        ({"quant_method": "fp8"}, 1.0, "fp8"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 8}, "input_activations": {"num_bits": 8}}
                },
            },
            1.0,
            "int8",
        ),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 0.5625, "16 bits"),
    ],
)
def test_quantisation_shrinks_the_layers_and_not_the_head(
    quantization: dict[str, Any], layer_bytes: float, arithmetic: str
) -> None:
    model = describe_model(LLAMA_70B | {"quantization_config": quantization}, name="m")
    assert model.weight_bytes == pytest.approx(layer_bytes, rel=0.01)
    assert model.arithmetic == arithmetic
    layers = 80 * model.layer_params * model.weight_bytes
    assert model.total_bytes == pytest.approx(layers + 2 * model.head_params * 2)


def test_kv_bytes_follow_the_kv_dtype() -> None:
    assert describe_model(LLAMA_70B, name="m").kv_bytes_per_token == 80 * 2 * 8 * 128 * 2
    assert (
        describe_model(LLAMA_70B, name="m", kv_dtype="fp8").kv_bytes_per_token == 80 * 2 * 8 * 128
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": None}, "lacks num_attention_heads"),
        ({"intermediate_size": None}, r"lacks intermediate_size \(or ffn_hidden_size"),
        ({"expert_count": 64}, "expert_count=64 is not understood; a mixture of experts has"),
        ({"layer_types": 5}, "layer_types=5 must be a list"),
        (
            {"num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": ["a"]},
            r"mlp_only_layers=\['a'\] must be a list of whole numbers",
        ),
        (
            {"num_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": "x"},
            "n_shared_experts='x' must be a whole number from 0 to",
        ),
        ({"architectures": ["BertForMaskedLM"]}, "only models that generate text are described"),
        ({"block_configs": [{}]}, "block_configs has 1 values; give one for each of the 80"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be a whole number from 1 to 2,000"),
        ({"hidden_size": "8192"}, "hidden_size='8192' must be a whole number"),
        ({"num_key_value_heads": 7}, "num_key_value_heads=7 must divide"),
        ({"num_attention_heads": 63, "num_key_value_heads": 7}, "not divisible"),
        ({"torch_dtype": "int3"}, "torch_dtype='int3' is not known; known:"),
        ({"kv_lora_rank": 512}, "lacks qk_nope_head_dim"),
        ({"is_encoder_decoder": True}, "only decoders are described"),
        ({"mamba_d_state": 128}, "mamba_d_state=128: layers that keep a state"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "layers that keep a state"),
        ({"layer_types": ["conv", "full_attention"]}, "layers that keep a state"),
        ({"quantization_config": "int8"}, "quantization_config='int8' must be an object"),
        ({"quantization_config": [{"bits": 4}]}, "must be an object with a quant_method"),
        (
            {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": "x"}},
            "groups with weights of a num_bits from 1 to 64 each; got 'x'",
        ),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"a": {"weights": None}},
                }
            },
            "weights of a num_bits from 1 to 64 each",
        ),
        ({"quantization_config": {"quant_method": "magic"}}, "'magic' is not described"),
        ({"quantization_config": {"quant_method": "gptq", "bits": -4}}, "bits=-4"),
        ({"quantization_config": {"quant_method": "gptq"}}, "bits=None"),
        ({"quantization_config": {"quant_method": "awq", "w_bit": 4}}, "group_size=None"),
        ({"kv_sharing_map": {"1": 0}}, "kv_sharing_map"),
        ({"quantization_config": {"quant_method": "awq", "group_size": "x"}}, "group_size='x'"),
        ({"num_local_experts": 8}, "lacks num_experts_per_tok"),
        ({"num_local_experts": 8, "num_experts_per_tok": 9}, "at most the 8 experts"),
    ],
)
def test_a_config_that_does_not_do_is_refused_naming_the_field(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        describe_model(LLAMA_70B | change, name="m")


FP8: dict[str, Any] = {"quant_method": "fp8"}
_405B: dict[str, Any] = LLAMA_70B | {
    "num_hidden_layers": 126,
    "hidden_size": 16384,
    "num_attention_heads": 128,
    "intermediate_size": 53248,
    "vocab_size": 128256,
}
_WIDE_405B = [
    *(f"model.layers.{layer}.self_attn" for layer in range(126)),
    *(f"model.layers.{n}.mlp.{p}_proj" for n in (0, 125) for p in ("gate", "up", "down")),
    "lm_head",
]


def weight_bytes(quantization: dict[str, Any], config: dict[str, Any] = LLAMA_70B) -> float:
    return describe_model(config | {"quantization_config": quantization}, name="m").weight_bytes


def test_modules_that_stay_wide_are_counted_wide() -> None:
    """Meta's 405B in fp8 leaves attention and the first and last MLP in 16 bits: 16 % of it."""
    attention = 126 * 16384 * 128 * 2 * (128 + 8)
    wide = attention + 2 * 3 * 16384 * 53248
    layers = attention + 126 * 3 * 16384 * 53248
    found = weight_bytes(FP8 | {"modules_to_not_convert": _WIDE_405B}, _405B)
    assert found == pytest.approx(1 + wide / layers)


@pytest.mark.parametrize(
    "wide",
    [
        {"modules_to_not_convert": ["self_attn"]},
        {"ignored_layers": [f"layers.{n}.self_attn.{p}_proj" for n in range(80) for p in "qkvo"]},
        {"ignore": ["re:.*self_attn.*", "lm_head"]},
        {"exclude_modules": ["model.layers.*.self_attn*", "lm_head"]},
        {"llm_int8_skip_modules": [f"layers.{n}.self_attn" for n in range(80)]},
        {"quant_method": "gptq", "bits": 8, "group_size": -1, "dynamic": {"-:.*self_attn.*": {}}},
        {
            "quant_method": "gptq",
            "bits": 8,
            "group_size": -1,
            "modules_in_block_to_quantize": [["mlp.up_proj", "mlp.gate_proj"], ["mlp.down_proj"]],
        },
    ],
    ids=lambda wide: next(iter(set(wide) - {"quant_method", "bits", "group_size"})),
)  # fmt: skip
def test_every_way_to_name_modules_that_stay_wide_is_understood(wide: dict[str, Any]) -> None:
    model = describe_model(LLAMA_70B | KNOWN | {"quantization_config": FP8 | wide}, name="m")
    share = model.attention_params / model.layer_params
    assert model.weight_bytes == pytest.approx(1 + share)
    assert not model.assumptions


def test_groups_of_different_bits_are_counted_apart_and_what_meets_nothing_is_named() -> None:
    groups = {
        "group_0": {"targets": ["Linear"], "weights": {"num_bits": 4}},
        "group_1": {"targets": ["re:.*down_proj"], "weights": {"num_bits": 8}},
    }
    found = {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["blob.3"]}
    model = describe_model(LLAMA_70B | {"quantization_config": found}, name="m")
    down = model.hidden * LLAMA_70B["intermediate_size"] / model.layer_params
    assert model.weight_bytes == pytest.approx(0.5 + 0.5 * down)
    assert any("none of the layers' matrices: blob.3" in note for note in model.assumptions)


def test_kv_is_counted_as_the_checkpoint_asks() -> None:
    scheme = FP8 | {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    assert describe_model(LLAMA_70B | {"quantization_config": scheme}, name="m").kv_bytes == 1
    both = describe_model(LLAMA_70B | {"quantization_config": scheme}, name="m", kv_dtype="half")
    assert both.kv_bytes == 2


CHATGLM3: dict[str, Any] = {
    "model_type": "chatglm",
    "num_layers": 28,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "kv_channels": 128,
    "ffn_hidden_size": 13696,
    "padded_vocab_size": 65024,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "seq_length": 8192,
}
LING_LITE: dict[str, Any] = {
    "model_type": "bailing_moe",
    "num_hidden_layers": 28,
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 5632,
    "moe_intermediate_size": 1408,
    "num_experts": 64,
    "num_experts_per_tok": 6,
    "num_shared_experts": 2,
    "first_k_dense_replace": 0,
    "vocab_size": 126464,
}
HUNYUAN_LARGE: dict[str, Any] = {
    "model_type": "hunyuan",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "attention_head_dim": 128,
    "intermediate_size": 3072,
    "moe_intermediate_size": [3072] * 32,
    "num_experts": 64,
    "moe_topk": [8] * 32,
    "num_shared_expert": [1] * 32,
    "use_mixed_mlp_moe": True,
    "vocab_size": 128167,
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize(
    ("config", "published", "kv_bytes"),
    [
        pytest.param(CHATGLM3, 6.24e9, 28 * 2 * 2 * 128 * 2, id="ChatGLM3 6B"),
        pytest.param(LING_LITE, 16.8e9, 28 * 2 * 4 * 128 * 2, id="Ling Lite"),
        pytest.param(HUNYUAN_LARGE, 80.4e9, 32 * 2 * 8 * 128 * 2, id="Hunyuan A13B"),
        pytest.param(
            {"thinker_config": {"text_config": LLAMA_8B}}, 8.03e9, 32 * 2 * 8 * 128 * 2, id="nested"
        ),
    ],
)
def test_fields_with_other_names_count_as_what_they_are(
    config: dict[str, Any], published: float, kv_bytes: int
) -> None:
    model = describe_model(config, name="m")
    assert model.num_params == pytest.approx(published, rel=0.01)
    assert model.kv_bytes_per_token == kv_bytes
    assert not any("not understood" in note for note in model.assumptions)


def test_fields_that_may_size_something_and_are_not_read_are_noted_by_name() -> None:
    novel = {"adapter_rank": 64, "num_memory_slots": 8, "initializer_range": 0.02, "mlp_ratio": 4.0}
    novel |= {"ngram_vocab_size": 1_000_000, "no_repeat_ngram_size": 3}
    (note,) = describe_model(LLAMA_70B | KNOWN | novel, name="m").assumptions
    assert "adapter_rank=64, num_memory_slots=8, mlp_ratio=4.0, ngram_vocab_size=1000000" in note
    tower = {"vision_config": {"hidden_size": 1024}, "num_nextn_predict_layers": 1}
    notes = describe_model(LLAMA_70B | KNOWN | tower, name="m").assumptions
    assert [note.split(":")[0].split(" ")[0] for note in notes] == [
        "vision_config",
        "num_nextn_predict_layers=1",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"attn_type_list": [0, 1] * 40},
        {"full_attention_interval": 4},
        {"residual_moe": True},
        {"num_kv_shared_layers": 10},
        {"cla_share_factor": 2},
        {"v_head_dim": 96},
        {"num_attention_heads": [64] * 79 + [32]},
        {"hidden_size_per_layer_input": 256},
        {"quantization_config": FP8 | {"modules_to_not_convert": 5}},
        {"quantization_config": FP8 | {"ignore": ["re:("]}},
        {"quantization_config": FP8 | {"ignore": ["re:(a+)+$"]}},  # for ever, on most names
        {"quantization_config": FP8 | {"ignore": ["a*"] * 10_000 + [f"{n}*" for n in range(999)]}},
        {"quantization_config": {"quant_method": "modelopt", "quant_algo": "W9"}},
        {"quantization_config": FP8 | {"kv_cache_quant_algo": "FP3"}},
    ],
)
def test_what_is_known_and_not_described_is_refused_by_name(change: dict[str, Any]) -> None:
    name = next(iter(change))
    with pytest.raises(ModelError, match=name):
        describe_model(LLAMA_70B | change, name="m")


def test_what_the_config_left_open_is_told() -> None:
    assert describe_model(LLAMA_70B | KNOWN, name="m").assumptions == ()
    vague = {"model_type": "novel", "sliding_window": 4096}
    assert describe_model(LLAMA_70B | vague, name="m").assumptions == (
        "model_type='novel' was not checked: it is counted like Llama",
        "max_position_embeddings is missing: taken as 4,096",
        "sliding_window=4,096 is left out: all layers are taken to keep all KV",
    )


AUTO_ROUND = {"quant_method": "auto-round", "bits": 4, "group_size": 128}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (
            {"quantization_config": AUTO_ROUND | {"extra_config": {"mlp": {"bits": 16}}}},
            "extra_config",
        ),
        ({"quantization_config": AUTO_ROUND | {"to_quant_block_names": [["l"]]}}, "to_quant_block"),
        ({"quantization_config": AUTO_ROUND | {"lm_head": True}}, "quantization_config.lm_head"),
        ({"visual": {"depth": 32}}, "visual"),
        ({"img_processor": {"name": "clip"}}, "img_processor"),
        ({"audio_processor": {"config": {}}}, "audio_processor"),
        ({"mm_vision_tower": "openai/clip"}, "mm_vision_tower"),
        ({"qformer_config": {"hidden_size": 768}}, "qformer_config"),
        ({"moe_layers": [3, 4, 5]}, "moe_layers"),
    ],
)
def test_what_is_beside_the_text_model_or_not_understood_is_noted_by_name(
    change: dict[str, Any], name: str
) -> None:
    notes = describe_model(LLAMA_70B | KNOWN | change, name="m").assumptions
    assert any(name in note for note in notes), notes


def test_grouped_heads_are_read_where_mpt_has_them() -> None:
    grouped = {k: v for k, v in LLAMA_70B.items() if k != "num_key_value_heads"}
    model = describe_model(grouped | KNOWN | {"attn_config": {"kv_n_heads": 4}}, name="m")
    assert model.shape.num_kv_heads == 4
