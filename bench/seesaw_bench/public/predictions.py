"""Our predictions of published runs, on the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random

from seesaw_bench.public.harnesses import TENSORRT_REQUESTS, Harness
from seesaw_bench.public.rows import Metric, Row
from seesaw_core.errors import InputError, SeesawError
from seesaw_core.planner.accelerators import builtin_catalogue
from seesaw_core.planner.costs import StepCosts
from seesaw_core.planner.model_configs import describe_model
from seesaw_core.planner.models import Model
from seesaw_core.planner.workloads import Request
from seesaw_core.resharding.policy import PhasePolicy, Reshard
from seesaw_sim.draws import Lengths, draw_requests
from seesaw_sim.reports import Report
from seesaw_sim.simulate import Scenario, simulate
from seesaw_worker.planning.config_files import read_object, with_quantization
from seesaw_worker.planning.defaults import with_defaults

_BLOCK = 16  # tokens of a block of vLLM's prefix cache
_REQUESTS = 1000  # where all come at once and their number is not published
_USABLE = 0.99  # what the simulator's admission leaves of the pool
_FORMATS = {"fp8": "FP8", "fp4": "NVFP4", "nvfp4": "NVFP4"}
# Configs of the package by the names that sources use. Those of the second table are quantised as
# they stand.
_CONFIGS = {
    "Llama-3.1-70B": "meta-llama--Meta-Llama-3.1-70B",
    "Llama-3.3-70B": "meta-llama--Meta-Llama-3.1-70B",
    "Llama-3.1-8B": "meta-llama--Meta-Llama-3.1-8B",
    "Llama-3.1-8B-Instruct-FP8": "meta-llama--Meta-Llama-3.1-8B",
    "Llama-3.1-405B": "meta-llama--Meta-Llama-3.1-405B",
    "Mixtral-8x7B": "mistralai--Mixtral-8x7B-v0.1",
    "Mixtral-8x22B": "mistralai--Mixtral-8x22B-v0.1",
    "Qwen3-32B": "Qwen--Qwen3-32B",
    "Qwen3-30B-A3B": "Qwen--Qwen3-30B-A3B",
    "Qwen3-235B-A22B": "Qwen--Qwen3-235B-A22B",
    "Llama-4-Scout": "meta-llama--Llama-4-Scout-17B-16E-Instruct",
    "Llama-4-Maverick": "meta-llama--Llama-4-Maverick-17B-128E-Instruct",
}
_QUANTIZED = {
    ("MiniMax-M2.5", "fp8"): "MiniMaxAI--MiniMax-M2.5",
    ("MiniMax-M2.5", "fp4"): "nvidia--MiniMax-M2.5-NVFP4",
    ("Qwen3-235B-A22B-FP8", "fp8"): "Qwen--Qwen3-235B-A22B-FP8",
    ("gpt-oss-120b", "fp4"): "openai--gpt-oss-120b",
    ("Kimi-K2.5", "int4"): "moonshotai--Kimi-K2.5",
    ("Kimi-K2.5", "fp4"): "nvidia--Kimi-K2.5-NVFP4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A run beside ours. ``values`` by metric, in its unit; without any, ``reason`` says why."""

    row: Row
    values: Mapping[Metric, float]
    is_dense: bool = True
    reason: str = ""

    def error(self, metric: Metric) -> float:
        """Return by how much the prediction is off, as a share of what was published."""
        return self.values[metric] / self.row.published[metric] - 1


def is_mixture(row: Row) -> bool:
    """Whether the model of a latency run is a mixture of experts, by its name."""
    return (row.model.rpartition("/")[2], row.precision) in _QUANTIZED


def predict(row: Row, configs: Path) -> Prediction:
    """Simulate a run as its source made it. What cannot be simulated has a reason instead."""
    if row.splits_experts:
        reason = "experts or attention were divided in a way that is not predicted"
        return Prediction(row=row, values={}, is_dense=False, reason=reason)
    try:
        model = _model(row, configs)
        is_dense = not any(p.copies > 1 for kind in model.kinds for p in kind.products)
        report = _simulated(row, model, is_dense=is_dense)
    except SeesawError as error:
        return Prediction(row=row, values={}, reason=str(error))
    return Prediction(row=row, values=_values(row, report), is_dense=is_dense)


def _values(row: Row, report: Report) -> dict[Metric, float]:
    if row.concurrency is None:
        return {Metric.THROUGHPUT: report.output_tokens_per_s}
    harness = row.harness
    start_ms = harness.start_ms + 1e-3 * harness.start_us_per_token * row.prompt_tokens
    return {Metric.TPOT: 1e3 * report.tpot.mean, Metric.TTFT: 1e3 * report.ttft.mean + start_ms}


def _simulated(row: Row, model: Model, *, is_dense: bool) -> Report:
    harness = row.harness
    device = builtin_catalogue().accelerator(row.accelerator)
    max_requests, step_tokens = harness.max_requests, harness.step_tokens
    if row.splits_requests and not is_dense:
        model = _SplitRequests(**{f.name: getattr(model, f.name) for f in fields(model)})
        max_requests, step_tokens = (row.layout.tensor * n for n in (max_requests, step_tokens))
    if harness.reserves_output:
        costs = StepCosts(model, device, row.layout, harness.profile)
        room = costs.kv_capacity_tokens(step_tokens=step_tokens, max_requests=max_requests)
        whole = int(_USABLE * room) // (row.prompt_tokens + row.output_tokens)
        max_requests = max(1, min(max_requests, whole))
    scenario = Scenario(
        model=model,
        device=device,
        prefill=row.layout,
        decode=row.layout,
        profile=harness.profile,
        step_tokens=step_tokens,
        max_requests=max_requests,
        policy=PhasePolicy(reshard=Reshard.NEVER),
    )
    return simulate(scenario, _requests(row), concurrency=row.concurrency)


class _SplitRequests(Model):
    """A mixture of experts in whose attention each rank has requests of its own.

    A layer then has one exchange of hidden states, to the experts and back.
    """

    @property
    def num_all_reduces(self) -> float:
        return 1.0


def _requests(row: Row) -> list[Request]:
    harness = row.harness
    if row.concurrency is None:
        number = TENSORRT_REQUESTS.get((row.prompt_tokens, row.output_tokens), _REQUESTS)
    else:
        number = harness.rounds * row.concurrency
    if harness.spreads is not None:
        prompts, outputs = harness.spreads
        return draw_requests(
            number,
            prompts=Lengths.around(row.prompt_tokens, spread=prompts),
            outputs=Lengths.around(row.output_tokens, spread=outputs),
        )
    random = Random(0)
    drawn = [
        Request(
            prompt_tokens=random.randint(_least(row.prompt_tokens, harness), row.prompt_tokens),
            output_tokens=random.randint(_least(row.output_tokens, harness), row.output_tokens),
        )
        for _ in range(number)
    ]
    if harness.unique_prompts is None:
        return drawn
    again = ((r.prompt_tokens - 1) // _BLOCK * _BLOCK for r in drawn[harness.unique_prompts :])
    repeated = zip(drawn[harness.unique_prompts :], again, strict=True)
    return drawn[: harness.unique_prompts] + [replace(r, cached_tokens=n) for r, n in repeated]


def _least(tokens: int, harness: Harness) -> int:
    return max(1, int(harness.least_share * tokens))


def _model(row: Row, configs: Path) -> Model:
    name = row.model.rpartition("/")[2]
    config_name = _QUANTIZED.get((name, row.precision), _CONFIGS.get(name))
    if config_name is None:
        raise InputError(f"no config of {name} in {row.precision} is known")
    prefix = f"{config_name}_"
    config = with_quantization(
        read_object(configs / f"{prefix}config.json"), configs, prefix=prefix
    )
    if row.precision and (name, row.precision) not in _QUANTIZED:
        quantization = {"quant_algo": _FORMATS[row.precision], "exclude_modules": ["lm_head"]}
        config["quantization_config"] = {"quant_method": "modelopt", "quantization": quantization}
    harness = row.harness
    is_narrow = row.precision and harness.narrow_kv and row.accelerator not in harness.wide_kv_on
    return describe_model(
        with_defaults(config), name=row.title, kv_dtype="fp8" if is_narrow else "auto"
    )
