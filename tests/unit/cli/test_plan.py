"""``seesaw plan`` and ``seesaw simulate`` as users type them."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seesaw_cli import plan
from seesaw_cli.simulate import command as simulate
from seesaw_core.errors import InputError
from support.public_configs import QWEN35_27B

CONFIG = {
    "num_hidden_layers": 80,
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
ASKED = ("--accelerator", "A100-PCIe-40", "--requests", "200", "--prompt-tokens", "2000")


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "Llama-70b").mkdir()
    (tmp_path / "Llama-70b/config.json").write_text(json.dumps(CONFIG))
    return str(tmp_path / "Llama-70b")


def test_a_plan_names_the_best_pair_its_gain_and_the_command(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.run([model, *ASKED]) == 0
    shown = capsys.readouterr().out
    assert "Llama-70b: 69.0 B parameters" in shown
    assert "Best: P8→T4P2" in shown
    assert "over the best static layout" in shown
    assert "each device: 16." in shown, "GiB of weights: an eighth"
    assert f"seesaw worker {model} --decode-tensor-parallel-size 4" in shown
    assert "--kv-buffer-gib 256 --flush-timeout-s 10" in shown, "that of all eight devices"


def test_a_plan_says_what_it_was_predicted_from_and_how_sure_it_is(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*more: str) -> str:
        assert plan.run([model, *ASKED, *more]) == 0
        return capsys.readouterr().out

    sheets, measured = told(), told("--accelerator", "H100-SXM")
    assert "note: predicted from A100-PCIe-40's data sheet: nine in ten public runs" in sheets
    assert "were within 35 %, links aside" in sheets
    assert "≈ too close to call against P8→T4P2" in sheets
    assert "note: predicted from kernels measured on H100-SXM: " in measured
    own = tmp_path / "own.json"
    for content, is_calibrated in (
        ("{}", False),
        ('{"profile": {}, "accelerator": {"name": "A100-PCIe-80"}}', False),
        ('{"profile": {}, "accelerator": {"name": "A100-PCIe-40"}}', True),
    ):
        own.write_text(content)
        band = json.loads(told("--profile", str(own), "--json"))["best"]["band"]
        narrow = {"low": pytest.approx(0.85), "high": pytest.approx(1.15)}
        assert (band == narrow) == is_calibrated, content


def test_the_same_plan_as_json(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.run([model, *ASKED, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reshards"] is True
    assert (found["best"]["prefill"], found["best"]["decode"]) == ("P8", "T4P2")
    assert found["gain"] == pytest.approx(
        found["pairs"][0]["requests_per_s"] / found["static"][0]["requests_per_s"]
    )
    assert {"layout", "reason"} == set(found["rejected"][0])
    pair, static = found["best"]["memory"], found["static"][0]["memory"]
    assert pair["buffer_tokens"] == 8 * 32 * 2**30 // (80 * 2 * 8 * 128 * 2), "32 GiB a device"
    assert static["weight_bytes"] <= pair["weight_bytes"], "the arena takes the larger shard"
    assert 0 < pair["kv_tokens"] < static["kv_tokens"], "the prefill engine's pool is taken off"


def test_a_simulation_compares_and_draws(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    asked = [model, *ASKED, "--compare", "--disaggregate", "T4:T4", "--json"]
    assert simulate.run([*asked, "--output", str(folder)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"P8→T4P2", "T4+T4"} < set(found["systems"])
    for report in found["systems"].values():
        assert report["num_requests"] == 200
        assert report["generated_tokens"] == report["output_tokens"]
    assert {Path(p).name for p in found["pictures"]} >= {
        "timeline-P8-to-T4P2.png",
        "side-by-side.png",
    }
    assert all(Path(p).stat().st_size > 5000 for p in found["pictures"])


def test_a_plans_latency_holds_when_so_many_requests_at_a_time_are_simulated(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [model, *ASKED, "--concurrency", "32", "--flush-timeout-s", "60"]
    assert plan.run([*asked, "--tpot-target-ms", "150", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["static"][0]
    assert planned["tpot_s"] <= 0.15
    layout = ["--prefill", planned["prefill"], "--decode", planned["decode"]]
    seqs = ["--max-num-seqs", str(planned["max_requests"])]
    steps = ["--max-num-batched-tokens", str(planned["step_tokens"])]
    assert simulate.run([*asked, *layout, *seqs, *steps, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["systems"].values()
    assert report["tpot"]["mean"] == pytest.approx(planned["tpot_s"], rel=0.2)


def test_what_is_compared_with_stays_static_however_much_the_pair_re_shards(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for reshard in ("auto", "always"):
        assert simulate.run([model, *ASKED, "--compare", "--reshard", reshard, "--json"]) == 0
        systems = json.loads(capsys.readouterr().out)["systems"]
        (static,) = [r for name, r in systems.items() if "→" not in name]
        found.append(static)
    assert found[0] == found[1]
    assert found[0]["transitions"] == 0


def test_a_trace_brings_its_own_requests_and_times(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:16:46.6805900,396,109\n"
    )
    asked = [model, "--accelerator", "A100-PCIe-40", "--trace", str(trace), "--json"]
    assert simulate.run([*asked, "--prefill", "P8", "--decode", "T4P2"]) == 0
    report = json.loads(capsys.readouterr().out)["systems"]["P8→T4P2"]
    assert (report["prompt_tokens"], report["output_tokens"]) == (770, 153)
    assert report["duration_s"] > 60


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--accelerator", "X"], "accelerator 'X' is not known; known: A10"),
        (["--accelerator", "H100"], "did you mean H100-PCIe or H100-SXM or H100-NVL. known: A10"),
        ([], "--accelerator is needed; known: A10"),
        ([*ASKED, "--devices", "0"], "--devices: must be a whole number from 1 to 1024, got '0'"),
        ([*ASKED, "--output-tokens", "4000"], "more than the model's 4,096 tokens"),
        (
            [*ASKED, "--kv-buffer-gib-per-device", "inf"],
            "gib-per-device: must be a number above",
        ),
        (["--accelerator", "L4", "--trace", "none.csv"], "--trace: 'none.csv': No such file"),
        ([*ASKED, "--trace", __file__], "--trace and --prompt-tokens both set the requests"),
        ([*ASKED, "--ttft-target-s", "2"], "--ttft-target-s=2.0 needs --concurrency"),
        ([*ASKED, "--spread", "9"], "--spread: must be a number of at least 0 and at most 3"),
        ([*ASKED, "--profile", "none.json"], "--profile: 'none.json': No such file"),
    ],
)
def test_what_cannot_be_planned_is_refused_naming_the_flag(
    model: str, flags: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        plan.run([model, *flags])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prefill", "P8"], "--prefill and --decode go together"),
        (["--prefill", "P8", "--decode", "X2"], "layout 'X2' is not understood; write D, T and P"),
        (["--prefill", "P8", "--decode", "T4"], "must be equal"),
        (["--disaggregate", "T4"], "--disaggregate=T4: write the prefill and the decode layout"),
        (["--elastic", "4"], "--elastic=4: write the number of instances, from 1 to 64"),
        (["--elastic", "0:T2"], "--elastic=0:T2: write the number of instances"),
        (["--elastic", "4:P2"], "--elastic=4:P2: an instance is tensor-parallel alone"),
        (["--elastic", "4:T3"], "--elastic=4:T3: the model's"),
        (["--output", "/proc/none"], "--output=/proc/none: no folder can be made there"),
        (["--concurrency", "0"], "--concurrency: must be a whole number from 1"),
        (
            ["--concurrency", "8", "--arrivals-per-s", "1"],
            "--concurrency and --arrivals-per-s both set when requests arrive",
        ),
        (["--devices", "abc"], "--devices: must be .* got 'abc'; see seesaw simulate"),
        (["--arrivals-per-s", "0"], "--arrivals-per-s: must be a number above 0"),
        (["--flush-timeout-s", "0"], "--flush-timeout-s: must be a number above 0"),
    ],
)
def test_what_cannot_be_simulated_is_refused_naming_the_flag(
    model: str, flags: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        simulate.run([model, *ASKED, *flags])


def test_a_model_without_heads_is_refused_naming_field_and_file(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG | {"num_attention_heads": None}))
    with pytest.raises(InputError, match=r"config.json: config.json lacks num_attention_heads"):
        plan.run([str(file), *ASKED])


def test_a_trace_of_requests_too_long_for_the_model_is_refused(model: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,50000,10\n")
    with pytest.raises(InputError, match=r"50,010 tokens, more than the model's 4,096"):
        plan.run([model, "--accelerator", "L4", "--trace", str(trace)])


def test_a_layout_on_other_devices_than_said_is_told(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [model, *ASKED, "--requests", "20", "--prefill", "P16", "--decode", "T8P2"]
    assert simulate.run(asked) == 0
    assert "P16→T8P2 has 16 devices, not --devices=8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prefill", "T3", "--decode", "P8"], "--prefill=T3: the model's 64 attention heads"),
        (["--prefill", "P8", "--decode", "P99"], "--decode=P99: the model has only 80 layers"),
        (["--prefill", "P8", "--decode", "8"], "--decode: layout '8' is not understood"),
        (["--disaggregate", "T4:T3"], "--disaggregate=T4:T3: decode=T3: the model's 64"),
    ],
)
def test_a_layout_that_cannot_be_simulated_is_refused_naming_its_flag(
    model: str, flags: list[str], message: str
) -> None:
    with pytest.raises(InputError) as refused:
        simulate.run([model, *ASKED, *flags])
    assert message in str(refused.value)


def test_a_command_without_standard_output_ends_like_any_other() -> None:
    asked = [sys.executable, "-m", "seesaw_cli.main", "--version"]
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *asked], capture_output=True, check=False
    )
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_a_reader_that_has_left_sees_no_traceback(model: str) -> None:
    asked = [sys.executable, "-m", "seesaw_cli.main", "plan", model, *ASKED]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as planning:
        assert planning.stdout is not None
        assert planning.stderr is not None
        planning.stdout.close()  # as `| head` does
        assert planning.stderr.read() == b""
        assert planning.wait() == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("name", "found", "gib"),
    [
        ("hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}}, 65),
        ("quantize_config.json", {"bits": 4, "group_size": 128}, 35),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 128}, 35),
    ],
)
def test_quantisation_beside_the_config_is_counted(
    model: str, name: str, found: object, gib: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(model) / name).write_text(json.dumps(found))
    assert plan.run([model, *ASKED]) == 0
    weights = capsys.readouterr().out.split(" GiB of weights")[0].split(" ")[-1]
    assert float(weights) == pytest.approx(gib, abs=1.5)
    (Path(model) / name).write_text('{"quantization": ')
    with pytest.raises(InputError, match=f"{name} is not JSON"):
        plan.run([model, *ASKED])


def test_quantisation_beside_one_of_several_configs_is_counted(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(model)
    (folder / "config.json").rename(folder / "A_config.json")
    wide, narrow = {"quant_algo": "FP8"}, {"quant_algo": "NVFP4"}
    (folder / "A_hf_quant_config.json").write_text(json.dumps({"quantization": narrow}))
    (folder / "hf_quant_config.json").write_text(json.dumps({"quantization": wide}))
    assert plan.run([str(folder / "A_config.json"), *ASKED]) == 0
    weights = capsys.readouterr().out.split(" GiB of weights")[0].split(" ")[-1]
    assert float(weights) == pytest.approx(36.8, abs=0.1), "layers in 4.5 bits each"


def test_a_model_that_cannot_reshard_is_planned_static_and_the_reason_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN35_27B))
    asked = [str(tmp_path), "--accelerator", "L40S", "--devices", "4", "--requests", "100"]
    assert plan.run(asked) == 0
    shown = capsys.readouterr().out
    assert "64 KiB of KV a token, 147 MiB of state a request" in shown
    assert "re-sharding cannot serve this model, since it keeps recurrent state" in shown
    assert "\nre-sharding: it keeps recurrent state beside its KV\n" in shown
    assert "--reshard never" in shown
    assert plan.run([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [layer["count"] for layer in found["question"]["model"]["layers"]] == [48, 16]
    assert simulate.run([*asked, "--no-data-parallel"]) == 0
    for flags, way in (
        (["--prefill", "P4", "--decode", "T4"], "re-sharding cannot serve"),
        (["--elastic", "2:T2"], "elastic instances cannot serve"),
    ):
        with pytest.raises(InputError, match=way):
            simulate.run([*asked, *flags])


def test_what_is_cheap_to_check_is_checked_before_the_model(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match="accelerator 'H900' is not known"):
        plan.run([nowhere, "--accelerator", "H900"])
    with pytest.raises(InputError, match=r"--trace: .*nothing\.csv.: No such file"):
        plan.run([nowhere, "--accelerator", "L4", "--trace", str(tmp_path / "nothing.csv")])
    with pytest.raises(InputError, match=r"--spread: .* got '9'"):
        plan.run([nowhere, "--accelerator", "L4", "--spread", "9"])


def test_more_devices_than_one_link_joins_are_noted(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [model, "--accelerator", "H100-SXM", "--requests", "20"]
    assert plan.run([*asked, "--devices", "8"]) == 0
    assert "domain" not in capsys.readouterr().out
    assert plan.run([*asked, "--devices", "16"]) == 0
    assert "note: 16 x H100-SXM are more than the 8 that one nvlink4 domain" in (
        capsys.readouterr().out
    )
