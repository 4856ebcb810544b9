"""A worker that ends while it loads, by a kill, a signal or a bad tensor: nothing of it is left."""

import json
import re
import signal
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from seesaw_cli.serve.local import LocalWorker
from seesaw_worker.synthetic import TINY, write_checkpoint
from support.process_watch.machine import (
    GONE_WITHIN_S,
    Machine,
    StartWorker,
    find,
    living,
    role_of,
    wait_for,
)

pytestmark = [pytest.mark.engine, pytest.mark.slow]

LOADED_WITHIN_S = 300.0  # on a busy machine
STOPPED_S = 4


@pytest.mark.parametrize(
    ("victim", "once_there", "after_s"),
    [
        ("supervisor", "server", 1.0),
        ("supervisor", "EngineCore", 0.5),
        ("server", "server", 1.0),
        ("server", "Worker_TP0", 0.3),
        ("EngineCore", "EngineCore", 0.4),
        ("Worker_PP1", "Worker_PP1", 0.5),
        ("Worker_TP0", "Worker_TP0", 0.1),
    ],
)
def test_a_process_killed_while_loading_leaves_nothing(
    victim: str, once_there: str, after_s: float, start_worker: StartWorker, machine: Machine
) -> None:
    worker = start_worker("--kv-buffer-gib=0.05", wait=False)
    watch_loading(worker, machine, once_there, after_s)
    find(worker, victim).kill()
    machine.assert_nothing_left()
    assert worker.process.wait(timeout=1) != 0


@pytest.mark.parametrize(
    ("once_there", "after_s"), [("server", 0.5), ("EngineCore", 0.3), ("Worker_TP0", 0.3)]
)
def test_sigterm_while_loading_ends_the_worker_soon_and_leaves_nothing(
    once_there: str, after_s: float, start_worker: StartWorker, machine: Machine
) -> None:
    worker = start_worker("--kv-buffer-gib=0.05", wait=False)
    watch_loading(worker, machine, once_there, after_s)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=GONE_WITHIN_S) == 0
    machine.assert_nothing_left()


@pytest.mark.parametrize("victim", ["fork server", "EngineCore", "Worker_TP0", "Worker_PP1"])
def test_a_process_that_is_stopped_while_loading_ends_the_worker(
    victim: str, start_worker: StartWorker, machine: Machine
) -> None:
    worker = start_worker("--kv-buffer-gib=0.05", f"--stall-exit-s={STOPPED_S}", wait=False)
    watch_loading(worker, machine, victim, 0.1)
    find(worker, victim).suspend()
    assert worker.process.wait(timeout=LOADED_WITHIN_S) == 1  # importing vLLM may come before
    said = f"has been stopped for {STOPPED_S} s (--stall-exit-s), while loading"
    assert said in worker.log.read_text().splitlines()[-1]
    machine.assert_nothing_left()


def test_loading_for_too_long_ends_the_worker(start_worker: StartWorker, machine: Machine) -> None:
    worker = start_worker("--kv-buffer-gib=0.05", "--load-exit-s=1", wait=False)
    watch_loading(worker, machine, "fork server", 0.1)
    assert worker.process.wait(timeout=LOADED_WITHIN_S) == 1
    last = worker.log.read_text().splitlines()[-1]
    assert re.search(r"the engines have been loading for \d+ s \(--load-exit-s\)", last), last
    machine.assert_nothing_left()


def watch_loading(worker: LocalWorker, machine: Machine, role: str, after_s: float) -> None:
    """Follow a worker while it loads, until ``after_s`` after a process has come up."""
    assert wait_for(lambda: role in map(role_of, living(worker)), LOADED_WITHIN_S) < LOADED_WITHIN_S
    until = time.monotonic() + after_s
    while time.monotonic() < until:
        machine.watch(worker)
        time.sleep(0.02)
    assert not worker.is_healthy(), "it was to end before it serves"
    machine.watch(worker)


def test_an_engine_that_cannot_start_ends_the_worker_with_the_cause(
    start_worker: StartWorker, machine: Machine, tmp_path: Path
) -> None:
    """Only the second prefill stage meets the bad tensor, and the decode engine waits for it."""
    model = tmp_path / "broken"
    write_checkpoint(model, TINY)
    swap_shape(model, "model.layers.3.mlp.down_proj.weight")
    worker = start_worker("--kv-buffer-gib=0.05", model=model, wait=False)
    failed = "WorkerProc failed to start"
    assert wait_for(lambda: failed in worker.log.read_text(), LOADED_WITHIN_S) < LOADED_WITHIN_S
    code = worker.process.wait(timeout=GONE_WITHIN_S)
    log = worker.log.read_text()
    machine.assert_nothing_left()
    assert code == 1, log
    last = log.splitlines()[-1]
    assert re.search(r"broken: (an engine could not start|VLLM::Worker.* has died)", last), log
    assert "RuntimeError: start (0) + length" in last, log
    assert "exceeds dimension size (256)" in last, log


def swap_shape(model: Path, name: str) -> None:
    """Let a checkpoint's header claim the transposed shape of a tensor."""
    for path in model.glob("*.safetensors"):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        if name in header:
            header[name]["shape"].reverse()
            text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
            assert len(text) == length
            path.write_bytes(data[:8] + text + data[8 + length :])
            return
    raise AssertionError(f"no tensor {name}")
