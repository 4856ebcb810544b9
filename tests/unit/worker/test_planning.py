"""A worker plans at its start, and again for the requests that came."""

import dataclasses
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram

import seesaw_worker.upstream.log_filters  # noqa: F401 - before anything that imports torch
from seesaw_core.errors import CapacityError, InputError, ModelError
from seesaw_core.layouts import Layout
from seesaw_core.messages import FinishedTotals, Proposal
from seesaw_core.planner.model_configs import describe_model
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_worker.planning.defaults import with_defaults
from seesaw_worker.planning.live import MIN_REQUESTS, Replanner, Traffic
from seesaw_worker.planning.start import Planned, find_accelerator, make_start_plan
from seesaw_worker.settings.engine import WeightsMode
from seesaw_worker.settings.planning import Parallelism, Planning
from seesaw_worker.settings.worker import WorkerSettings
from support.public_configs import DEEPSEEK_V3

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 131072,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "llama-70b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def flags(model: Path, **more: Any) -> Namespace:
    given = {
        "model": str(model),
        "revision": None,
        "dtype": "auto",
        "kv_cache_dtype": "auto",
        "max_model_len": 8192,
        "max_num_batched_tokens": 2048,
        "max_num_seqs": 256,
        "gpu_memory_utilization": 0.9,
    }
    return Namespace(**given | more)


def settings(reshard: Reshard = Reshard.AUTO, **planning: Any) -> WorkerSettings:
    return WorkerSettings(
        prefill=Layout(),
        decode=Layout(),
        kv_buffer_gib=160.0,
        shm_dir=Path("/dev/shm"),
        policy=PhasePolicy(reshard=reshard, flush_timeout_s=120.0),
        weights=WeightsMode.SHARED,
        drain_timeout_s=1.0,
        planning=Planning(parallelism=Parallelism.AUTO, **planning),
    )


def planned(model: Path, prompt_tokens: int, output_tokens: int) -> Planned:
    given = settings(
        accelerator="L4",
        num_devices=8,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
    )
    return make_start_plan(flags(model), given)


def test_long_prompts_over_pcie_are_prefilled_under_another_layout(model: Path) -> None:
    plan = planned(model, 3000, 250)
    made = plan.settings(settings())
    assert made.prefill != made.decode
    assert made.prefill.num_devices == made.decode.num_devices == 8
    assert made.reshard is Reshard.AUTO
    assert f"{made.prefill}→{made.decode} on L4" in str(plan)
    assert "\n" not in str(plan)


def test_a_static_plan_is_served_as_plain_vllm_is(model: Path) -> None:
    made = planned(model, 300, 1500).settings(settings())
    assert made.prefill == made.decode
    assert made.reshard is Reshard.NEVER


def test_a_model_that_cannot_reshard_is_served_static_and_the_reason_is_said(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(DEEPSEEK_V3))
    given = settings(accelerator="H200", num_devices=8, prompt_tokens=3000, output_tokens=250)
    plan = make_start_plan(flags(tmp_path), given)
    assert plan.settings(given).reshard is Reshard.NEVER
    assert "its latent attention has no KV heads to divide" in plan.summary.reason


def test_who_never_reshards_gets_a_static_plan(model: Path) -> None:
    given = settings(Reshard.NEVER, accelerator="L4", num_devices=8, prompt_tokens=3000)
    assert make_start_plan(flags(model), given).settings(given).reshard is Reshard.NEVER


def test_on_the_cpu_nothing_is_predicted_and_the_reason_is_said(model: Path) -> None:
    plan = make_start_plan(flags(model), settings(num_devices=2))
    made = plan.settings(settings())
    assert (str(made.prefill), str(made.decode), made.reshard) == ("T2", "T2", Reshard.NEVER)
    assert "on the CPU" in plan.summary.reason
    assert plan.summary.predicted_tokens_per_s is None


def test_a_model_longer_than_the_memory_is_refused_before_vllm_would(model: Path) -> None:
    given = settings(accelerator="L4", num_devices=8)
    with pytest.raises(CapacityError, match="131,072"):
        make_start_plan(flags(model, max_model_len=None), given)
    assert make_start_plan(flags(model, max_model_len=-1), given).pair.decode.num_devices == 8


def test_more_memory_for_vllm_is_more_room_in_the_plan(model: Path) -> None:
    given = settings(accelerator="L4", num_devices=8, prompt_tokens=300, output_tokens=1500)
    some = make_start_plan(flags(model, gpu_memory_utilization=0.9), given).summary
    more = make_start_plan(flags(model, gpu_memory_utilization=0.98), given).summary
    assert some.num_running is not None
    assert more.num_running is not None
    assert more.num_running > some.num_running


@pytest.mark.parametrize("name", ["NVIDIA L4", "nvidia-l4", "L4", "l4"])
def test_a_gpu_is_found_by_what_it_calls_itself(name: str) -> None:
    assert find_accelerator(Planning(), name).name == "L4"


def test_the_users_name_for_the_gpu_wins() -> None:
    assert find_accelerator(Planning(accelerator="A10"), "NVIDIA L4").name == "A10"


def test_an_unknown_gpu_is_refused_with_all_ways_out() -> None:
    with pytest.raises(InputError) as refused:
        find_accelerator(Planning(), "NVIDIA L5")
    for part in ("NVIDIA L5", "L4, L40S", "--accelerator", "--plan-profile", "--plan-accelerators"):
        assert part in str(refused.value)
    with pytest.raises(InputError, match="--accelerator=L5 is not known; known: A10,"):
        find_accelerator(Planning(accelerator="L5"), "NVIDIA L4")


def test_accelerators_of_the_users_own_may_be_planned_for(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[[accelerator]]\nname = "L5"\nproducts = ["NVIDIA-L5"]\nmemory_gib = 30\n'
        'memory_gb_per_s = 400\ntflops_16 = 200\nhost_link = "pcie5x16"\npeer_link = "pcie5x16"\n'
    )
    assert find_accelerator(Planning(accelerators=file), "NVIDIA L5").name == "L5"
    with pytest.raises(InputError, match=r"--plan-accelerators=.*none.toml: No such file"):
        find_accelerator(Planning(accelerators=tmp_path / "none.toml"), "NVIDIA L5")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold an object"),
        ('{"memory_share": 2}', "memory_share=2"),
    ],
)
def test_a_profile_that_is_none_is_refused(
    text: str, says: str, tmp_path: Path, model: Path
) -> None:
    file = tmp_path / "profile.json"
    file.write_text(text)
    given = settings(accelerator="L4", num_devices=8, profile=file)
    with pytest.raises(InputError, match=f"--plan-profile=.*{says}"):
        make_start_plan(flags(model), given)


def test_a_measured_profile_changes_what_is_predicted(tmp_path: Path, model: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text('{"memory_share": 0.4}')
    given = settings(accelerator="L4", num_devices=8)
    slow = dataclasses.replace(given, planning=dataclasses.replace(given.planning, profile=file))
    before = make_start_plan(flags(model), given).summary.predicted_tokens_per_s
    after = make_start_plan(flags(model), slow).summary.predicted_tokens_per_s
    assert before is not None
    assert after is not None
    assert after < before


def test_a_model_without_a_config_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--parallelism=auto plans from"):
        make_start_plan(flags(tmp_path), settings(accelerator="L4", num_devices=8))


class Came:
    """Requests that have come so far."""

    def __init__(self) -> None:
        self.totals = FinishedTotals()

    def add(self, requests: int, prompt_tokens: int, output_tokens: int) -> None:
        self.totals = FinishedTotals(
            requests=self.totals.requests + requests,
            prompt_tokens=self.totals.prompt_tokens + requests * prompt_tokens,
            output_tokens=self.totals.output_tokens + requests * output_tokens,
        )


def replanner(model: Path, came: Came, heard: list[Proposal]) -> Replanner:
    return Replanner(planned(model, 3000, 250), lambda: came.totals, heard.append)


def proposed_by(one: Replanner) -> Proposal | None:
    return one.summary.proposed


async def test_too_few_requests_tell_nothing(model: Path) -> None:
    came, heard = Came(), list[Proposal]()
    one = replanner(model, came, heard)
    came.add(MIN_REQUESTS - 1, 300, 1500)
    await one.replan()
    assert one.summary.expected_tokens_per_s is None
    came.add(1, 300, 1500)
    await one.replan()
    assert one.summary.expected_tokens_per_s is not None


async def test_what_two_looks_agree_on_is_proposed_once(model: Path) -> None:
    came, heard = Came(), list[Proposal]()
    one = replanner(model, came, heard)
    before = one.summary
    for _ in range(2):
        assert proposed_by(one) is None
        came.add(MIN_REQUESTS, 300, 1500)
        await one.replan()
    proposed = proposed_by(one)
    assert proposed is not None
    assert (proposed.prompt_tokens, proposed.output_tokens) == (300, 1500)
    assert (one.summary.prefill, one.summary.reason) == (before.prefill, before.reason)
    came.add(MIN_REQUESTS, 310, 1510)
    await one.replan()
    assert proposed_by(one) is proposed, "figures that change nothing are not news"
    assert heard == [proposed]


async def test_a_short_burst_neither_proposes_nor_takes_back(model: Path) -> None:
    came, heard = Came(), list[Proposal]()
    one = replanner(model, came, heard)
    for prompt, output in ((300, 1500), (3000, 250), (300, 1500)):
        came.add(MIN_REQUESTS, prompt, output)
        await one.replan()
        assert proposed_by(one) is None
    came.add(MIN_REQUESTS, 300, 1500)
    await one.replan()
    assert proposed_by(one) is not None
    came.add(MIN_REQUESTS, 3000, 250)
    await one.replan()
    assert proposed_by(one) is not None
    came.add(MIN_REQUESTS, 3000, 250)
    await one.replan()
    assert proposed_by(one) is None
    assert len(heard) == 1


async def test_a_plan_without_prediction_proposes_nothing(model: Path) -> None:
    came, heard = Came(), list[Proposal]()
    plan = make_start_plan(flags(model), settings(num_devices=2))
    one = Replanner(plan, lambda: came.totals, heard.append)
    for _ in range(3):
        came.add(MIN_REQUESTS, 300, 1500)
        await one.replan()
    assert one.summary == plan.summary


def test_traffic_is_what_vllm_counts_of_answered_requests() -> None:
    registry = CollectorRegistry()
    traffic = Traffic(registry)
    assert traffic.totals() == FinishedTotals()
    prompts, answers = (
        Histogram(f"vllm:request_{what}_tokens", "t", ["engine"], registry=registry)
        for what in ("prompt", "generation")
    )
    for engine, prompt, answer in (("0", 10, 3), ("0", 20, 4), ("1", 30, 5)):
        prompts.labels(engine=engine).observe(prompt)
        answers.labels(engine=engine).observe(answer)
    assert traffic.totals() == FinishedTotals(requests=3, prompt_tokens=60, output_tokens=12)


def test_fields_that_a_config_leaves_to_its_type_are_filled_in() -> None:
    """As Gemma 3 4B's is on the hub."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
    }
    given = {"model_type": "gemma3", "text_config": text, "torch_dtype": "bfloat16"}
    model = describe_model(given, name="m")
    assert (model.shape.num_heads, model.shape.num_kv_heads, model.shape.head_dim) == (8, 4, 256)
    assert model.max_tokens == 131_072
    assert model.num_params == pytest.approx(3.88e9, rel=0.01)


def test_fields_that_are_not_known_to_be_left_out_come_from_transformers() -> None:
    given = {"model_type": "olmo2", "num_hidden_layers": 16}
    model = describe_model(with_defaults(given), name="m")
    assert (model.shape.num_layers, model.shape.num_heads, model.max_tokens) == (16, 32, 2048)
    assert with_defaults({"model_type": "novel"}) == {"model_type": "novel"}
