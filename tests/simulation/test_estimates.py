"""Estimates are held to simulations over models, accelerators, layouts and workloads."""

from dataclasses import dataclass

import pytest

from seesaw_bench.paper.cells import MODELS
from seesaw_bench.planner.studies import simulate_choice
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.choose import PlanRequest, make_plan
from seesaw_core.planner.estimates import Estimate
from seesaw_core.planner.memory import EngineLimits
from seesaw_core.planner.model_configs import describe_model
from seesaw_core.planner.models import Model
from seesaw_core.planner.workloads import summarise
from seesaw_sim.draws import Lengths, draw_requests

_MIXTRAL = {
    "model_type": "mixtral",
    "vocab_size": 32000,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 65536,
}
_QWEN = {
    "model_type": "qwen3_moe",
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
    "max_position_embeddings": 40960,
}


def _mixtral(layers: int, hidden: int, heads: int, width: int) -> Model:
    shape = {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": width,
    }
    return describe_model(_MIXTRAL | shape, name=f"Mixtral, {layers} layers")


_8X7B = _mixtral(32, 4096, 32, 14336)
_8X22B = _mixtral(56, 6144, 48, 16384)
_30B_A3B = describe_model(_QWEN, name="Qwen3-30B-A3B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a model runs."""

    model: Model
    device: str
    num_devices: int = 8


PLACES = [
    pytest.param(Place(model=_8X22B, device="H100-PCIe", num_devices=16), id="8x22B-H100-PCIe"),
    pytest.param(Place(model=_8X22B, device="A100-PCIe-80"), id="8x22B-A100-PCIe"),
    pytest.param(Place(model=_8X7B, device="L4"), id="8x7B-L4"),
    pytest.param(Place(model=_30B_A3B, device="L4"), id="30B-A3B-L4"),
    pytest.param(Place(model=MODELS["70B"], device="A100-PCIe-40"), id="70B-A100-PCIe"),
    pytest.param(Place(model=MODELS["15B"], device="L4"), id="15B-L4"),
]


@pytest.mark.parametrize("place", PLACES)
def test_an_estimate_comes_near_the_simulation_of_the_same_choice(place: Place) -> None:
    """Each pair within 12 % and each static layout within 20 %, the median of all within 8 %."""
    ratios = []
    for lengths, flush_s in (((3000, 200), 10.0), ((1000, 250), 10.0), ((1000, 250), 1000.0)):
        requests = draw_requests(
            1500,
            prompts=Lengths.around(lengths[0], spread=0.5),
            outputs=Lengths.around(lengths[1], spread=0.5),
            longest=4096,
        )
        question = PlanRequest(
            model=place.model,
            device=builtin_catalogue().accelerator(place.device),
            num_devices=place.num_devices,
            workload=summarise(requests),
            limits=EngineLimits(flush_timeout_s=flush_s),
        )
        plan = make_plan(question)
        for choice in (*plan.static[:2], *plan.pairs[:2]):
            report = simulate_choice(question, choice, requests)
            ratio = choice.requests_per_s / report.requests_per_s
            said = f"{choice}, {lengths} tokens, flush {flush_s:g} s: {ratio:.2f}"
            assert _is_near(choice, ratio), said
            ratios.append(ratio)
            replica_s = report.duration_s * choice.decode.data
            switching = report.seconds_by_phase.get("transition", 0.0) / replica_s
            assert 0.6 * switching - 0.01 < choice.shares[2] < 1.5 * switching + 0.01, said
    assert 0.92 < sorted(ratios)[len(ratios) // 2] < 1.08, ratios


def _is_near(choice: Estimate, ratio: float) -> bool:
    band = 0.20 if choice.is_static else 0.12
    return 1 - band < ratio < 1 + band


def test_a_batch_reads_the_experts_that_some_token_of_it_draws() -> None:
    """Both estimate and simulator ask ``step_s``, which asks this of the model."""
    one = 3 * 2048 * 768
    router = 2048 * 128
    for tokens in (1, 16, 256):
        expected = 128 * (1 - (1 - 8 / 128) ** tokens)
        assert _30B_A3B.mlp_params(tokens) == pytest.approx(expected * one + router)
