"""A worker whose log is not read, or has no room left, still heeds signals and deaths."""

import os
import signal
import time
from pathlib import Path

import pytest

from support.process_watch.machine import GONE_WITHIN_S, Machine, StartWorker, find, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.mark.parametrize("ends_by", ["SIGTERM", "a dead rank"])
@pytest.mark.parametrize("log", ["a full disk", "a reader that has gone", "one that never reads"])
def test_a_worker_ends_in_time_whatever_becomes_of_its_log(
    log: str,
    ends_by: str,
    start_worker: StartWorker,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    place, reader = tmp_path / "worker-0.log", -1
    if log == "a full disk":
        place.symlink_to("/dev/full")
    else:
        os.mkfifo(place)
        reader = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    try:
        worker = start_worker("--kv-buffer-gib=0.05", wait=False)
        if log == "a reader that has gone":
            os.close(reader)
            reader = -1
        worker.wait_until_healthy()
        machine.watch(worker)
        began_s = time.monotonic()
        if ends_by == "SIGTERM":
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(timeout=2 * GONE_WITHIN_S) == 0
        else:
            find(worker, "Worker_TP1").kill()
            assert wait_for(lambda: not worker.is_healthy(), GONE_WITHIN_S) < GONE_WITHIN_S
            assert worker.process.wait(timeout=2 * GONE_WITHIN_S) == 1
        print(f"{log}, {ends_by}: ended after {time.monotonic() - began_s:.1f} s")
        machine.assert_nothing_left()
    finally:
        if reader >= 0:
            os.close(reader)
