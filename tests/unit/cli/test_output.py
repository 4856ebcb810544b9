"""Acting never depends on telling: whatever becomes of the log, signals and deaths are heeded."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

CHATTER = "import sys\nwhile True: print('x' * 999, file=sys.stderr); print('y' * 999)"
QUIET_AFTER_CHATTER = """
import os, signal, sys, time
for _ in range(2000):
    print('x' * 999, file=sys.stderr, flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
open(sys.argv[1], "w").close()
while True:
    time.sleep(60)
"""
GUARDED = """
import sys
from seesaw_cli.output import detached_output
from seesaw_worker.processes.supervisor import supervise
with detached_output():
    code = supervise(sys.argv[1:])
sys.exit(code)
"""
ENDS_WITHIN_S = 10.0
LOGS = ["a full disk", "a reader that has gone", "a reader that never reads", "closed"]


@contextlib.contextmanager
def log_that_is(kind: str) -> Iterator[int | None]:
    """A descriptor to log to; None stands for none at all."""
    if kind == "closed":
        yield None
        return
    reader, writer = os.pipe()
    if kind == "a full disk":
        writer = os.open("/dev/full", os.O_WRONLY)
    elif kind == "a reader that has gone":
        os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


def start(command: list[str], log: int | None) -> "subprocess.Popen[bytes]":
    if log is None:
        command = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
    return subprocess.Popen(command, stdout=log, stderr=log)


def wait_for(path: Path) -> None:
    until = time.monotonic() + ENDS_WITHIN_S
    while not path.exists():
        assert time.monotonic() < until, "the supervised process stands still for its log"
        time.sleep(0.02)


@pytest.mark.parametrize("log", LOGS)
def test_a_supervisor_heeds_sigterm_whatever_becomes_of_its_log(log: str, tmp_path: Path) -> None:
    with log_that_is(log) as descriptor:
        server = [sys.executable, "-c", QUIET_AFTER_CHATTER, str(tmp_path / "ready")]
        process = start([sys.executable, "-c", GUARDED, *server], descriptor)
        try:
            wait_for(tmp_path / "ready")
            below = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=ENDS_WITHIN_S) == 0
            assert [p for p in below if p.is_running()] == []
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("log", LOGS)
def test_a_supervisor_ends_with_its_server_however_much_that_said(log: str) -> None:
    with log_that_is(log) as descriptor:
        process = start([sys.executable, "-c", GUARDED, sys.executable, "-c", CHATTER], descriptor)
        try:
            until = time.monotonic() + ENDS_WITHIN_S
            while not (below := psutil.Process(process.pid).children()):
                assert time.monotonic() < until
            time.sleep(1.0)  # long enough to fill any pipe
            below[0].kill()
            assert process.wait(timeout=ENDS_WITHIN_S) == 1
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize(
    "arguments", [["router"], ["worker", "/no/such"], ["serve", "/no/such"], ["operator"], ["plan"]]
)
def test_bad_input_exits_with_2_even_if_nobody_can_be_told(
    log: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/no/such")
    with log_that_is(log) as descriptor:
        process = start([sys.executable, "-m", "seesaw_cli.main", *arguments], descriptor)
        assert process.wait(timeout=30) == 2


@pytest.mark.parametrize("log", LOGS)
def test_a_router_heeds_sigterm_whatever_becomes_of_its_log(log: str) -> None:
    from seesaw_cli.serve.local import free_port

    port = free_port()
    flags = ["--worker=http://127.0.0.1:9", f"--port={port}", "--host=127.0.0.1"]
    with log_that_is(log) as descriptor:
        command = [sys.executable, "-m", "seesaw_cli.main", "router", *flags]
        process = start(command, descriptor)
        try:
            until = time.monotonic() + 30
            watched = psutil.Process(process.pid)
            while not any(c.status == "LISTEN" for c in watched.net_connections(kind="tcp")):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=ENDS_WITHIN_S) == 0
        finally:
            process.kill()
            process.wait()


def test_all_that_was_said_arrives_in_its_order_where_it_is_read() -> None:
    say = "import os\nfor i in range(5000): os.write(1 + i % 2, b'%d\\n' % i)"
    script = f"""
import subprocess, sys
from seesaw_cli.output import detached_output
with detached_output():
    subprocess.run([sys.executable, "-c", {say!r}], check=True)
    print("last")
"""
    ended = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    assert ended.stdout.splitlines() == [*map(str, range(5000)), "last"]


def test_a_slow_reader_is_told_that_lines_are_missing() -> None:
    script = """
from seesaw_cli.output import detached_output
import os, time
with detached_output():
    for _ in range(100):
        os.write(2, b"x" * 65535 + b"\\n")
    print("waiting", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline() == "waiting\n"
        for line in process.stderr:
            if "bytes of output were dropped here" in line:
                return
        raise AssertionError("nothing was said")
    finally:
        process.kill()
        process.communicate()
