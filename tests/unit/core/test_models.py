"""Models are read from the configs that are in the wild, and counted right."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from seesaw_core.errors import ModelError
from seesaw_core.model_configs import GATED, LEFT_OUT, UNGATED, describe_model

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
    assert not any("model_type" in assumed for assumed in model.assumptions)


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
        ({"moe_num_experts": 64}, "moe_num_experts=64 is not understood; a mixture of experts has"),
        ({"layer_types": 5}, "layer_types=5 must be a list"),
        (
            {"num_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": ["a"]},
            r"mlp_only_layers=\['a'\] must be a list of whole numbers",
        ),
        (
            {"num_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": "x"},
            "n_shared_experts='x' must be a whole number of at least 0",
        ),
        ({"architectures": ["BertForMaskedLM"]}, "only models that generate text are described"),
        ({"block_configs": [{}]}, "layers of different shapes are not described"),
        ({"num_hidden_layers": 0}, "num_hidden_layers=0 must be a whole number of at least 1"),
        ({"hidden_size": "8192"}, "hidden_size='8192' must be a whole number"),
        ({"num_key_value_heads": 7}, "num_key_value_heads=7 must divide"),
        ({"num_attention_heads": 63, "num_key_value_heads": 7}, "not divisible"),
        ({"torch_dtype": "int3"}, "torch_dtype='int3' is not known; known:"),
        ({"kv_lora_rank": 512}, "latent attention is not described"),
        ({"is_encoder_decoder": True}, "only decoders are described"),
        ({"mamba_d_state": 128}, "mamba_d_state=128: layers that keep a state"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "layers that keep a state"),
        ({"layer_types": ["conv", "full_attention"]}, "layers that keep a state"),
        ({"quantization_config": "int8"}, "quantization_config='int8' must be an object"),
        ({"quantization_config": [{"bits": 4}]}, "must be an object with a quant_method"),
        (
            {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": "x"}},
            "weights of one num_bits, the same in all groups; got 'x'",
        ),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"a": {"weights": None}},
                }
            },
            "weights of one num_bits",
        ),
        ({"quantization_config": {"quant_method": "magic"}}, "'magic' is not described"),
        ({"quantization_config": {"quant_method": "gptq", "bits": -4}}, "bits=-4"),
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


def test_what_the_config_left_open_is_told() -> None:
    assert describe_model(LLAMA_70B | KNOWN, name="m").assumptions == ()
    vague = {"model_type": "novel", "sliding_window": 4096}
    assert describe_model(LLAMA_70B | vague, name="m").assumptions == (
        "model_type='novel' is not one that was checked: counted like Llama",
        "max_position_embeddings is missing: taken as 4,096",
        "sliding_window=4,096 is left out: all layers are taken to keep all KV",
    )
