"""Input that cannot work is refused before anything is loaded, by one line with value and fix.

Nearly all of it runs through the worker's own entry point in this process, since each process
that imports vLLM takes seconds; a few cases show what a user sees.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from seesaw_core.errors import CapacityError, InputError
from seesaw_worker.processes.shm import check_room
from seesaw_worker.server import worker_server
from seesaw_worker.server.commandline import parse
from seesaw_worker.server.serving import serve

BASE = (
    "--tensor-parallel-size=2",
    "--dtype=float32",
    "--kv-buffer-gib=0.05",
    "--enforce-eager",
    "--max-model-len=1024",
    "--block-size=32",
    "--kv-cache-memory-bytes=67108864",
    "--port=0",
)


@pytest.fixture(autouse=True)
def only_checked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checks alone: a case that is not refused fails, and the environment comes back."""

    async def loading(*_: object) -> None:
        pytest.fail("the worker began to load")

    before = dict(os.environ)
    monkeypatch.setattr(worker_server, "REGISTRY", CollectorRegistry())
    monkeypatch.setattr(worker_server.WorkerServer, "_start", loading)
    yield
    os.environ.clear()
    os.environ.update(before)
    assert not list(Path("/dev/shm").glob(f"seesaw-{os.getpid()}-*"))


def refusal(*arguments: str) -> str:
    """The line that a worker refuses its arguments with."""
    with pytest.raises(InputError) as refused:
        serve(parse(list(arguments)))
    message = str(refused.value)
    assert message
    assert "\n" not in message
    assert "pydantic" not in message
    return message


# ---- flags


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param("-tp=3", "attention heads are not divisible by 3; sizes that", id="heads"),
        pytest.param("-tp=0", "--tensor-parallel-size=0: must be at least 1", id="zero"),
        pytest.param("-pp=-1", "--pipeline-parallel-size=-1: must be", id="negative-stages"),
        pytest.param("--prefill-tensor-parallel-size=0", ", got '0'", id="zero-prefill"),
        pytest.param("--prefill-tensor-parallel-size=x", "whole number", id="no-number"),
        pytest.param("--prefill-tensor-parallel-size=3", "does not divide the 2", id="divide"),
        pytest.param(
            "--prefill-tensor-parallel-size=2 --prefill-pipeline-parallel-size=2",
            "both phases run on the same devices",
            id="devices-differ",
        ),
        pytest.param(
            "-tp=2 -pp=4 --prefill-tensor-parallel-size=1 --prefill-pipeline-parallel-size=8",
            "--prefill-pipeline-parallel-size=8: the model has only 4 layers; use at most 4",
            id="more-stages-than-layers",
        ),
        pytest.param("--kv-buffer-gib=-1", "--kv-buffer-gib: must be a number above 0", id="gib"),
        pytest.param("--kv-buffer-gib=nan", "above 0 and at most 1e+09, got 'nan'", id="gib-nan"),
        pytest.param("--kv-buffer-gib=inf", "at most 1e+09, got 'inf'", id="gib-infinite"),
        pytest.param("--kv-buffer-gib=0.00001", "give at least 0.0002", id="gib-below-a-block"),
        pytest.param("--kv-buffer-gib=900000", "(966367", id="gib-above-the-machine"),
        pytest.param("--kv-cache-memory-bytes=99999999999999", "of memory are avail", id="memory"),
        pytest.param("--kv-cache-memory-bytes=1000", "--kv-cache-memory-bytes=1000", id="pool"),
        pytest.param("--flush-timeout-s=0", "above 0 and at most 1e+09, got '0'", id="flush"),
        pytest.param("--low-watermark=1", "at least 0 and below 1, got '1'", id="watermark"),
        pytest.param("--dwell-transitions=-2", "at most 1e+09, got '-2'", id="dwell"),
        pytest.param("--drain-timeout-s=-4", "at least 0 and at most 1e+09, got '-4'", id="drain"),
        pytest.param("--reshard=sometimes", "choose from 'auto', 'always', 'never'", id="reshard"),
        pytest.param("--weights=none", "choose from 'shared', 'resident'", id="weights"),
        pytest.param("--kv-bufer-gib=3", "did you mean --kv-buffer-gib?", id="misspelt"),
        pytest.param("--dtype=float7", "invalid choice: 'float7'", id="dtype"),
        pytest.param("--kv-cache-dtype=nvfp4", "is not available on the CPU", id="kv-dtype"),
        pytest.param("--block-size=abc", "invalid int value: 'abc'", id="block-size"),
        pytest.param("--block-size=7", "--block-size=7 is not available", id="block-of-7"),
        pytest.param("--config=/no/such.yaml", "/no/such.yaml", id="config"),
        pytest.param("--max-model-len=99999", "max_model_len (99999)", id="too-long"),
        pytest.param("--max-num-seqs=0", "--max-num-seqs=0: input should be", id="no-seqs"),
        pytest.param(
            "--max-num-seqs=16 --max-num-batched-tokens=9",
            "max_num_batched_tokens (9)",
            id="batched",
        ),
        pytest.param("--port=99999", "--port=99999: must be from 0 to 65535", id="port"),
        pytest.param("--seed=-1", "--seed=-1: must be a number of at least 0", id="seed"),
        pytest.param("--renderer-num-workers=0", "of at least 1", id="no-renderers"),
        pytest.param("--h11-max-header-count=0", "of at least 1", id="no-headers"),
        pytest.param("--mm-processor-cache-gb=nan", "-gb=nan: must be", id="cache-nan"),
        pytest.param("--stream-interval=0", "--stream-interval=0: input", id="no-interval"),
        pytest.param("--ssl-keyfile=/no/key", "--ssl-keyfile=/no/key: no such", id="ssl"),
        pytest.param("--chat-template=/no/such.jinja", "/no/such.jinja", id="chat-template"),
        pytest.param("--tokenizer=/no/tokenizer", "--tokenizer=/no/tokenizer", id="tokenizer"),
        pytest.param("--enable-auto-tool-choice", "requires --tool-call-parser", id="tools"),
        pytest.param(
            "--enable-auto-tool-choice --tool-call-parser=mine",
            "invalid tool call parser: mine",
            id="tool-parser",
        ),
        pytest.param("--structured-outputs-config=[1", "Invalid JSON", id="json"),
        pytest.param("--config=/no/such.yaml", "--config=/no/such.yaml: No such", id="no-config"),
        pytest.param("--config=/tmp", "--config=/tmp: its name must end in", id="config-folder"),
        pytest.param("--allowed-origins=*", "--allowed-origins: '*' is not valid JSON", id="cors"),
        pytest.param(
            '--watermark-config={"name":"kgw"}', '--watermark-config={"name": "kgw"}', id="kgw"
        ),
        pytest.param("--middleware=nope.Mine", "--middleware=", id="middleware"),
        pytest.param("--ssl-cert-reqs=9", "--ssl-cert-reqs=9", id="ssl-reqs"),
        pytest.param("--shutdown-timeout=5", "give --drain-timeout-s", id="shutdown"),
    ],
)
def test_a_flag_that_cannot_work_is_named_with_its_value(
    flags: str, says: str, tiny_model: Path
) -> None:
    assert says in refusal(str(tiny_model), *BASE, *flags.split())


@pytest.mark.parametrize(
    ("flag", "way_out"),
    [
        ('--speculative-config={"method":"ngram","num_speculative_tokens":2}', "--reshard never"),
        (
            '--kv-transfer-config={"kv_connector":"ExampleConnector","kv_role":"kv_both"}',
            "--reshard never",
        ),
        ("--enable-sleep-mode", "--reshard never"),
        ("--kv-offloading-size=4", "--reshard never"),
        ("--cpu-offload-gb=1", "--reshard never"),
        ("--enable-cumem-allocator", "--reshard never"),
        ("--enable-expert-parallel", "--reshard never"),
        ("--quantization=bitsandbytes", "--reshard never"),
        ("--worker-cls=my.Worker", "--reshard never"),
        ("--decode-context-parallel-size=2", "--reshard never"),
        ("--runner=pooling", "--reshard never"),
        ("--load-format=dummy", "--weights resident"),
        ("--data-parallel-size=2", "one worker per replica"),
        ("--nnodes=2", "one worker per replica"),
        ("--distributed-executor-backend=ray", "one worker per replica"),
        ("--api-server-count=2", "running more workers"),
        ("--headless", "running more workers"),
    ],
)
def test_a_flag_that_does_not_go_with_resharding_names_the_way_out(
    flag: str, way_out: str, tiny_model: Path
) -> None:
    assert way_out in refusal(str(tiny_model), *BASE, flag)


def test_kv_heads_that_ranks_cannot_share_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    heads = {"hidden_size": 384, "num_attention_heads": 6, "num_key_value_heads": 3}
    model = copied(tiny_model, tmp_path, **heads)
    message = refusal(str(model), *BASE)
    assert "3 KV heads can neither be divided among nor replicated over 2 ranks" in message


def test_shared_memory_that_is_too_small_is_told_in_bytes_with_flag_and_mount() -> None:
    with pytest.raises(CapacityError) as refused:
        check_room(Path("/dev/shm"), 1 << 60, for_what="the KV buffer", flag="--kv-buffer-gib")
    for part in (str(1 << 60), "--kv-buffer-gib", "--shm-size", "emptyDir"):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [("missing", "No such file"), ("file", "is a file"), ("locked", "cannot be written")],
)
def test_a_shared_memory_folder_must_be_one(
    name: str, says: str, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    # Root may write anywhere but into the kernel's own tree.
    folder = Path("/proc/1") if name == "locked" else tmp_path / name
    said = refusal(str(tiny_model), *BASE, f"--shm-dir={folder}")
    assert "--shm-dir" in said
    assert str(folder) in said
    assert says in said


# ---- models


def copied(model: Path, tmp_path: Path, **config: object) -> Path:
    """A copy of a model with another configuration."""
    path = tmp_path / "model"
    shutil.copytree(model, path)
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | config))
    return path


def test_no_model_is_asked_for() -> None:
    assert "no MODEL given" in refusal(*BASE)


@pytest.mark.parametrize("weights", ["shared", "resident"])
def test_a_path_that_is_no_model_is_refused(weights: str, tiny_model: Path, tmp_path: Path) -> None:
    flags = (*BASE, f"--weights={weights}")
    assert "no such folder" in refusal(str(tmp_path / "nothing"), *flags)
    assert "is a file" in refusal(str(tiny_model / "config.json"), *flags)
    assert "holds no config.json" in refusal(str(tmp_path), *flags)


def test_a_checkpoint_without_safetensors_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    model = copied(tiny_model, tmp_path)
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert "holds no *.safetensors files" in refusal(str(model), *BASE)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "cut short after 0 bytes", id="empty"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull", id="lfs"),
        pytest.param(b"\xff" * 5000, "not a safetensors file", id="noise"),
        pytest.param((2).to_bytes(8, "little") + b"[]", "no safetensors header", id="list"),
        pytest.param((3).to_bytes(8, "little") + b"{,}", "not a readable", id="no-json"),
        pytest.param((8).to_bytes(8, "little") + b'{"a":{}}', "header", id="no-tensor"),
    ],
)
def test_a_file_that_is_no_safetensors_file_is_named(
    content: bytes, says: str, tiny_model: Path, tmp_path: Path
) -> None:
    model = copied(tiny_model, tmp_path)
    (model / "model.safetensors").write_bytes(content)
    message = refusal(str(model), *BASE)
    assert says in message
    assert "model.safetensors" in message


def test_a_truncated_checkpoint_is_told_in_bytes(tiny_model: Path, tmp_path: Path) -> None:
    model = copied(tiny_model, tmp_path)
    file = model / "model.safetensors"
    num_bytes = file.stat().st_size
    os.truncate(file, num_bytes - 1)
    assert f"it has {num_bytes - 1} bytes of {num_bytes}" in refusal(str(model), *BASE)


def test_a_configuration_that_is_no_json_is_named(tiny_model: Path, tmp_path: Path) -> None:
    model = copied(tiny_model, tmp_path)
    (model / "config.json").write_text("{")
    assert "config.json" in refusal(str(model), *BASE)


# ---- what a user sees


def run_worker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "seesaw_cli.main", "worker", *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_a_user_sees_one_line_and_exit_code_two_and_no_shared_memory_is_left(
    tiny_model: Path, tmp_path: Path
) -> None:
    ended = run_worker(str(tiny_model), *BASE, "-tp=3", f"--shm-dir={tmp_path}")
    assert ended.returncode == 2, ended.stderr
    *progress, last = ended.stderr.splitlines()
    assert "--decode-tensor-parallel-size=3" in last
    assert last.startswith("seesaw worker: ")
    # The only other line is vLLM's about how many files this machine lets a process open.
    others = [line for line in progress if not line.startswith("seesaw worker [")]
    assert all("ulimit" in line for line in others), ended.stderr
    assert ended.stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_port_in_use_is_refused_before_loading(tiny_model: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run_worker(
            str(tiny_model), *BASE, "--host=127.0.0.1", f"--port={port}", f"--shm-dir={tmp_path}"
        )
    assert ended.returncode == 2, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"seesaw worker: cannot listen on --host=127.0.0.1 --port={port}")
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())
