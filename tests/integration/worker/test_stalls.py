"""A process that lives but stands still: the worker says so, is unhealthy, and ends if it stays."""

import contextlib
import http.client
import json
import signal
import threading
import time
import urllib.request

import pytest

from seesaw_cli.serve.local import LocalWorker
from support.process_watch.machine import GONE_WITHIN_S, Machine, StartWorker, find, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.slow]

UNHEALTHY_S, EXIT_S = 6.0, 25.0
LATE_S = 30.0  # on a busy machine, whose longest step so far lengthens both bounds
BOUNDS = (f"--stall-unhealthy-s={UNHEALTHY_S}", f"--stall-exit-s={EXIT_S}")


class Streams:
    """Clients that read streams one after the other, and how many chunks came."""

    def __init__(self, worker: LocalWorker) -> None:
        self._worker = worker
        self.num_chunks = 0
        self.has_ended = False
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        body = {"model": self._worker.model, "prompt": list(range(10, 90)), "max_tokens": 400}
        more = {"ignore_eos": True, "stream": True}
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                request = urllib.request.Request(
                    f"{self._worker.url}/v1/completions",
                    json.dumps(body | more).encode(),
                    {"Content-Type": "application/json"},
                )
                with urllib.request.urlopen(request, timeout=120) as answer:
                    for line in answer:
                        if line.startswith(b'data: {"error"'):  # the model may say the word
                            raise OSError(line)
                        self.num_chunks += 1
        self.has_ended = True

    def go_on(self) -> bool:
        seen = self.num_chunks
        return wait_for(lambda: self.num_chunks > seen, 20) < 20


def step_age_s(worker: LocalWorker) -> float:
    with urllib.request.urlopen(f"{worker.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return max(float(x.split()[1]) for x in lines if x.startswith("seesaw_step_age_seconds"))


@pytest.mark.parametrize(
    ("role", "index", "flags"),
    [
        pytest.param("Worker_TP1", 0, ("--reshard=always",), id="a decode rank"),
        pytest.param("Worker_PP1", 0, ("--reshard=always",), id="a prefill rank"),
        pytest.param("EngineCore", 0, ("--reshard=always",), id="an engine core"),
        pytest.param("EngineCore", 1, ("--reshard=auto",), id="the other core"),
        pytest.param("Worker_TP0", 0, ("--reshard=never",), id="a rank of plain vLLM"),
    ],
)
def test_a_stopped_process_makes_the_worker_unhealthy_and_then_ends_it(
    role: str, index: int, flags: tuple[str, ...], start_worker: StartWorker, machine: Machine
) -> None:
    worker = start_worker("--kv-buffer-gib=0.05", "--flush-timeout-s=0.5", *flags, *BOUNDS)
    machine.watch(worker)
    streams = Streams(worker)
    assert streams.go_on()
    victim = find(worker, role, index)

    victim.send_signal(signal.SIGSTOP)
    took_s = wait_for(lambda: not worker.is_healthy(), UNHEALTHY_S + LATE_S)
    state = worker.state()
    print(f"{role} {index}: unhealthy after {took_s:.1f} s: {state.detail}")
    assert UNHEALTHY_S * 0.5 < took_s < UNHEALTHY_S + LATE_S
    assert state.stage == "stalled"
    assert "has been at one step for" in state.detail
    assert step_age_s(worker) > UNHEALTHY_S
    victim.send_signal(signal.SIGCONT)
    assert wait_for(worker.is_healthy, LATE_S) < LATE_S
    assert worker.state().stage == "serving"
    assert streams.go_on()

    victim.send_signal(signal.SIGSTOP)
    began_s = time.monotonic()
    assert worker.process.wait(timeout=EXIT_S + LATE_S + GONE_WITHIN_S) == 1
    assert time.monotonic() - began_s > EXIT_S * 0.8
    assert wait_for(lambda: streams.has_ended, 5) < 5
    assert "has been at one step for" in worker.log.read_text().splitlines()[-1]
    machine.assert_nothing_left()
