"""Nothing of a worker outlives it, whoever dies when; and nothing of anybody else's is removed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from seesaw_worker.processes.run_folder import SHM, WorkerFiles
from seesaw_worker.processes.segments import is_segment
from seesaw_worker.processes.shm import LOCK
from support.process_watch.machine import wait_for

RUN = "seesaw-4711-0123abcd"
SUPERVISED = [sys.executable, "-m", "seesaw_worker.processes.supervisor"]

# A worker's server with all that vLLM makes: memory, semaphores, sockets, temporary files.
SERVER = """
import os, sys, tempfile, time
from multiprocessing import get_context, shared_memory
from pathlib import Path
from seesaw_worker.processes.shm import RunFolder, create_segment
from seesaw_worker.processes.run_folder import WorkerFiles
files = WorkerFiles.current()
memory = shared_memory.SharedMemory(create=True, size=4096)
lock = get_context("spawn").Lock()
folder = RunFolder.create(Path(sys.argv[1]), files.link_run_folder)
create_segment(folder.path / "kv-buffer", 8192, flag="--kv-buffer-gib")
open(tempfile.mkstemp()[1], "w").close()
rendezvous = files.new_rendezvous()
rendezvous.touch()
Path("/dev/shm", f"{rendezvous.name}-tp:0-[0-1]-cpushm_1").touch()
print(files.folder, flush=True)
time.sleep(600)
"""


class Supervised:
    """A supervisor and its server, and what they have made."""

    def __init__(self, short_path: Path, *, server: str = SERVER) -> None:
        self.shm_dir = short_path / "shm"
        self.shm_dir.mkdir()
        self.environment = os.environ | {"TMPDIR": str(short_path)}
        self.process = subprocess.Popen(
            [*SUPERVISED, sys.executable, "-c", server, str(self.shm_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.environment,
            text=True,
        )
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.folder = Path(lines.readline().strip())

    @property
    def server(self) -> psutil.Process:
        return psutil.Process(self.process.pid).children()[0]

    def left(self) -> list[Path]:
        mark = WorkerFiles(folder=self.folder).tag
        found = [p for p in SHM.iterdir() if mark in p.name]
        return found + list(self.shm_dir.iterdir()) + list(self.folder.parent.glob("seesaw-*"))

    def end(self) -> None:
        if self.process.poll() is None:
            for process in psutil.Process(self.process.pid).children(recursive=True):
                process.kill()
        self.process.kill()
        self.process.wait()
        WorkerFiles(folder=self.folder).remove()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for those of sockets in it."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def supervised(short_path: Path) -> Iterator[Supervised]:
    made = Supervised(short_path)
    try:
        assert len(made.left()) >= 5, "memory, semaphore, collectives, run folder, private folder"
        yield made
    finally:
        made.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_server_all_that_it_made_goes(
    number: signal.Signals, supervised: Supervised
) -> None:
    supervised.server.send_signal(number)
    assert supervised.process.wait(timeout=10) == 1
    assert supervised.left() == []


def test_the_next_start_removes_all_that_a_worker_made_which_was_killed_as_a_whole(
    supervised: Supervised,
) -> None:
    below = psutil.Process(supervised.process.pid).children(recursive=True)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # so that nobody can clean up
        for process in [psutil.Process(supervised.process.pid), *below]:
            process.send_signal(number)
    supervised.process.wait()
    psutil.wait_procs(below, timeout=5)
    assert len(supervised.left()) >= 5
    subprocess.run([*SUPERVISED, "true"], env=supervised.environment, check=True)
    assert supervised.left() == []


def test_a_start_leaves_a_running_worker_alone(supervised: Supervised) -> None:
    before = sorted(supervised.left())
    subprocess.run([*SUPERVISED, "true"], env=supervised.environment, check=True)
    assert sorted(supervised.left()) == before


def test_a_server_that_is_killed_is_told_of() -> None:
    command = [*SUPERVISED, "sh", "-c", "kill -KILL $$"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.endswith("has died by signal 9\n")


def test_a_server_that_is_stopped_hears_of_sigterm_all_the_same(supervised: Supervised) -> None:
    supervised.server.send_signal(signal.SIGSTOP)
    supervised.process.terminate()
    assert supervised.process.wait(timeout=10) == 0
    assert supervised.left() == []


def test_a_server_that_is_stopped_cleans_up_after_a_supervisor_that_is_killed(
    short_path: Path,
) -> None:
    watch = "from seesaw_worker.processes.watchdog import clean_up_with_supervisor as w; w(); "
    supervised = Supervised(short_path, server=watch + SERVER.lstrip())
    try:
        server = supervised.server
        server.suspend()
        supervised.process.kill()
        assert psutil.wait_procs([server], timeout=10)[1] == []
        assert supervised.left() == []
    finally:
        supervised.end()


def test_a_server_that_stays_stopped_is_ended(short_path: Path) -> None:
    start = (
        "import sys; from seesaw_worker.processes.supervisor import supervise; "
        "sys.exit(supervise(['sleep', '600'], longest_stop_s=2.0))"
    )
    supervisor = subprocess.Popen(
        [sys.executable, "-c", start],
        env=os.environ | {"TMPDIR": str(short_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        process = psutil.Process(supervisor.pid)
        # Before its exec, a stopped child holds its parent in vfork, which then watches nothing.
        assert wait_for(lambda: [p.name() for p in process.children()] == ["sleep"], 60) < 60
        (server,) = process.children()
        server.suspend()
        _, said = supervisor.communicate(timeout=60)
        last = said.splitlines()[-1]
        assert f"(process {server.pid}) has been stopped for 2 s (--stall-exit-s)" in last
        assert said.count(last) == 2, "when it happens, and below what the dying print"
        assert supervisor.returncode == 1
        assert list(short_path.glob("seesaw-*")) == []
    finally:
        supervisor.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can plant another user's folder")
@pytest.mark.parametrize("planted", ["another user's", "open to all", "a link", "a linked lock"])
def test_a_start_trusts_no_folder_that_others_may_have_planted(
    planted: str, short_path: Path
) -> None:
    victim = short_path / RUN
    victim.mkdir(mode=0o700)
    (victim / LOCK).touch()
    segment = SHM / "seesaw.0123456789abcdef.planted"
    segment.touch()
    folder = short_path / "seesaw-0123456789abcdef"
    if planted == "a link":
        (short_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(short_path / "elsewhere")
    else:
        folder.mkdir(mode=0o700)
    (folder / "memory").symlink_to(victim)
    if planted == "a linked lock":
        (short_path / "lock").touch()
        (folder / LOCK).symlink_to(short_path / "lock")
    else:
        (folder / LOCK).touch()
    if planted == "open to all":
        folder.chmod(0o777)
    if planted == "another user's":
        os.chown(folder, 65534, 65534)
    try:
        environment = os.environ | {"TMPDIR": str(short_path)}
        subprocess.run([*SUPERVISED, "true"], env=environment, check=True)
        assert victim.exists()
        assert segment.exists()
        assert (folder / LOCK).exists()
    finally:
        segment.unlink()


def test_a_worker_stops_when_the_command_that_started_it_is_gone(
    short_path: Path,
) -> None:
    start = (
        "import os, subprocess, sys, time; "
        "os.environ['SEESAW_PARENT_PID'] = str(os.getpid()); "
        "subprocess.Popen(sys.argv[1:]); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", start, *SUPERVISED, "sleep", "60"],
        env=os.environ | {"TMPDIR": str(short_path)},
    )
    try:
        until = time.monotonic() + 10
        while not (below := psutil.Process(parent.pid).children(recursive=True)):
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    assert psutil.wait_procs(below, timeout=10)[1] == []


def test_a_worker_starts_beside_files_whose_names_are_no_text() -> None:
    odd = Path(os.fsdecode(b"/dev/shm/seesaw-test-\xff"))
    odd.touch()
    try:
        ended = subprocess.run([*SUPERVISED, "true"], capture_output=True, check=False)
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert odd.exists()
    finally:
        odd.unlink()


def test_a_start_without_room_for_temporary_files_names_tmpdir(short_path: Path) -> None:
    command = [sys.executable, "-m", "seesaw_cli.main", "worker", "--port=0"]
    blocked = short_path / "file"
    blocked.touch()
    preset = "import tempfile, sys; tempfile.tempdir = sys.argv.pop(1); "
    run = "import runpy; runpy.run_module('seesaw_cli.main', run_name='__main__')"
    ended = subprocess.run(
        [sys.executable, "-c", preset + run, str(blocked), *command[3:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "set TMPDIR" in ended.stderr


@pytest.mark.parametrize(
    "path",
    [
        "/dev/shm/psm_0123abcd",
        "/dev/shm/sem.mp-8gdpmc8o",
        "/dev/shm/vllm_dist_104b940a6c464775b6cd939228c5467c-tp:0-[0-1]-cpushm_1",
        "/dev/shm/seesaw.0123456789abcdef.89ab-tp:0-[0-1]-cpushm_1",
        "/dev/shm/torch_4711_123456_0",
        f"/dev/shm/{RUN}/kv-buffer",
        f"/mnt/memory/{RUN}/arena-11",
    ],
)
def test_segments_of_vllm_and_of_ours_are_known(path: str) -> None:
    assert is_segment(Path(path))


@pytest.mark.parametrize(
    "path",
    [
        "/dev/shm/model.safetensors",
        "/dev/shm/psm_notes",
        "/dev/shm/torch_model.safetensors",
        "/dev/shm/vllm_dist_weights.bin",
        "/dev/shm/seesaw-models/model.safetensors",
        f"/dev/shm/{RUN}/model.safetensors",
        f"/models/{RUN}/checkpoint/kv-buffer",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
    ],
)
def test_a_file_of_a_users_is_no_segment(path: str) -> None:
    assert not is_segment(Path(path))
