"""The thread that cleans up after a dead supervisor finishes, whoever else ends the server then."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from seesaw_worker.processes.run_folder import SHM, WorkerFiles

NUM_SEGMENTS = 300  # so many that removing them takes longer than the main thread's end

# A server with one engine. When its supervisor dies, the watchdog kills the engine; the main
# thread sees that, as vLLM's front end does, and ends the server too.
SERVER = """
import os, subprocess, sys
from seesaw_worker.processes.watchdog import clean_up_with_supervisor, kill_children

clean_up_with_supervisor()
engine = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
engine.wait()
kill_children()
os._exit(1)
"""
ENGINE = """
import mmap, sys, time
maps = []
for name in sys.argv[1:]:
    with open(name, "r+b") as file:
        maps.append(mmap.mmap(file.fileno(), 0))
print("mapped", flush=True)
time.sleep(60)
"""


@pytest.fixture
def files() -> Iterator[WorkerFiles]:
    made = WorkerFiles.create()
    for number in range(NUM_SEGMENTS):
        (SHM / f"vllm_dist_{made.tag}{number}-tp:0").write_bytes(bytes(4096))
    yield made
    made.remove()


def segments(files: WorkerFiles) -> list[Path]:
    return list(SHM.glob(f"*{files.tag}*"))


def test_the_end_of_the_server_waits_for_the_clean_up_after_its_supervisor(
    files: WorkerFiles,
) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, ENGINE, *map(str, segments(files))],
        env=files.environment() | {"SEESAW_SUPERVISOR_PID": str(supervisor.pid)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "mapped\n"
        (engine,) = psutil.Process(server.pid).children()
        supervisor.kill()
        assert server.wait(timeout=30) == 1
        assert not engine.is_running()
        assert [path.name for path in segments(files)] == []
        assert not files.folder.exists()
    finally:
        for process in (supervisor, server):
            process.kill()
            process.communicate()
