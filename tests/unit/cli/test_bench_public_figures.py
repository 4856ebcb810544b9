"""``seesaw bench public-figures`` holds predictions against what others measured."""

import json
from pathlib import Path

import pytest

from seesaw_bench.public import command
from seesaw_bench.public.harnesses import CACHED, INFERENCEMAX
from seesaw_bench.public.predictions import predict
from seesaw_bench.public.rows import Metric, read_sample
from seesaw_core.errors import InputError

LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
LLAMA_70B = LLAMA_8B | {
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "hidden_size": 8192,
    "intermediate_size": 28672,
}
SAMPLE_HEAD = (
    "backend,mode,system,model_path,precision,isl,osl,batch_size,tp_size,pp_size,moe_tp_size,"
    "moe_ep_size,attention_dp_size,silicon_data_source,silicon_ttft_ms,silicon_tpot_ms"
)
COLLECTED = "source_file=aic-auto-gap-analysis/data"
# Source: InferenceMAX and NVIDIA, in aiconfigurator-core 0.12 (PyPI), silicon_sample.csv.
CACHED_RUN = (
    f"vllm,agg,h200_sxm,nvidia/Llama-3.1-8B-Instruct-FP8,fp8,4000,500,96,1,1,1,1,,{COLLECTED},"
    "120.93,17.11"
)
THROUGHPUT_HEAD = "gpu,model,precision,tp,pp,isl,osl,value,unit,source"
# Source: TensorRT-LLM, docs/source/performance/perf-overview.md.
THROUGHPUT = 'H100-SXM-80,Llama-3.1-8B,fp8,1,1,2048,128,3556.73,"output tok/s",TensorRT-LLM'


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "aiconfigurator_core"
    configs = folder / "model_configs"
    configs.mkdir(parents=True)
    (folder / "systems").mkdir()
    config = configs / "meta-llama--Meta-Llama-3.1-8B_config.json"
    config.write_text(json.dumps(LLAMA_8B))
    write_sample(folder, CACHED_RUN)
    return folder


def write_sample(folder: Path, *lines: str) -> Path:
    file = folder / "systems" / "silicon_sample.csv"
    file.write_text("\n".join((SAMPLE_HEAD, *lines)) + "\n")
    return file


def run(package: Path, *more: str) -> int:
    output = package.parent / "out"
    return command.run(["--package", str(package), "--output", str(output), *more])


def test_predictions_stand_beside_what_was_published_and_targets_decide_the_exit_code(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    throughput = package / "throughput.csv"
    throughput.write_text(f"{THROUGHPUT_HEAD}\n{THROUGHPUT}\n")
    assert run(package, "--throughput", str(throughput)) == 1
    shown = capsys.readouterr().out
    assert "| ms a token: mean absolute error at most 10 % | 0.1 % of 1 | yes |" in shown
    assert "| ms to the first token: mean absolute error at most 25 % | 1" in shown
    assert "| 100 prompts | Llama-3.1-8B-Instruct-FP8 fp8 | H200 | T1 | 1 |" in shown
    written = json.loads((package.parent / "out" / "public-figures.json").read_text())
    latency, rate = written["rows"]
    assert latency["published"] == {"ms a token": 17.11, "ms to the first token": 120.93}
    assert rate["predicted"]["output tokens/s"] == pytest.approx(3556.73, rel=0.25)
    assert {t["met"] for t in written["targets"]} == {True, False}
    assert (package.parent / "out" / "public-figures.png").stat().st_size > 1000


def test_met_targets_exit_with_0(package: Path) -> None:
    write_sample(package, CACHED_RUN.replace("120.93", "300"))
    assert run(package) == 0


def test_prompts_that_repeat_are_in_the_prefix_cache_and_others_are_not(package: Path) -> None:
    write_sample(package, CACHED_RUN, CACHED_RUN.replace(COLLECTED, "db-dump"))
    rows = read_sample(package / "systems" / "silicon_sample.csv")
    assert [row.harness for row in rows] == [CACHED, INFERENCEMAX]
    cached, computed = (predict(row, package / "model_configs").values[Metric.TPOT] for row in rows)
    assert cached < 0.75 * computed


def test_layouts_are_held_against_each_other_and_unknown_ones_are_left_out(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = package / "throughput.csv"
    one = THROUGHPUT.replace("fp8,1,1", "fp8,1,2")
    other = THROUGHPUT.replace("fp8,1,1", "fp8,2,1").replace("3556.73", "1000")
    unknown = THROUGHPUT.replace("Llama-3.1-8B", "GPT-5")
    file.write_text(f"{THROUGHPUT_HEAD}\n{one}\n{other}\n{unknown}\n")
    assert run(package, "--throughput", str(file)) == 1
    shown = capsys.readouterr().out
    assert "| Llama-3.1-8B fp8, 2 × H100-SXM | P2 against T2 | 3.56 |" in shown
    assert "| order of two layouts of the same devices | 1 of 1 | yes |" in shown
    assert "Left out, 1 runs: no config of GPT-5 in fp8 is known." in shown


def test_on_l4_the_layouts_come_in_the_published_order(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Source: https://substratus.ai/blog/benchmarking-llama-3.1-70b-on-l4."""
    config = package / "model_configs" / "meta-llama--Meta-Llama-3.1-70B_config.json"
    config.write_text(json.dumps(LLAMA_70B))
    file = package / "throughput.csv"
    runs = ("2,4,233,175,307.61", "4,2,233,175,261.16")
    lines = (f"L4,Llama-3.1-70B,fp8,{run},output tok/s,substratus.ai" for run in runs)
    file.write_text("\n".join((THROUGHPUT_HEAD, *lines)) + "\n")
    run(package, "--throughput", str(file))
    assert "| T2P4 against T4P2 | 1.18 | 1.02 | yes |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("gpu,tp\n", r"throughput\.csv: no column value"),
        (f"{THROUGHPUT_HEAD}\nTPU,m,fp8,1,1,1,1,1,u,s\n", r"gpu='TPU' is not known; known: A100"),
    ],
)
def test_a_file_in_another_form_is_refused(package: Path, text: str, wanted: str) -> None:
    file = package / "throughput.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=wanted):
        run(package, "--throughput", str(file))
