"""A renewed certificate is served without a restart, where the flag asks for it."""

import ssl
import subprocess
import time
from pathlib import Path

import pytest

from seesaw_cli.serve.local import LocalWorker
from support.process_watch.machine import StartWorker

pytestmark = [pytest.mark.engine, pytest.mark.slow]

WITHIN_S = 60.0


def make_certificate(folder: Path, name: str) -> None:
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem "
        f"-subj /CN={name}",
        shell=True,
        cwd=folder,
        check=True,
        capture_output=True,
    )


def served(worker: LocalWorker) -> str | None:
    """The certificate that the worker shows; None while it shows none."""
    try:
        return ssl.get_server_certificate(("127.0.0.1", worker.port), timeout=5)
    except OSError:
        return None


def test_a_renewed_certificate_is_served_without_a_restart(
    start_worker: StartWorker, tmp_path: Path
) -> None:
    make_certificate(tmp_path, "first")
    cert = tmp_path / "cert.pem"
    flags = (f"--ssl-certfile={cert}", f"--ssl-keyfile={tmp_path}/key.pem", "--enable-ssl-refresh")
    worker = start_worker("--kv-buffer-gib=0.05", *flags, wait=False)
    first = cert.read_text()
    deadline = time.monotonic() + 5 * WITHIN_S
    while "] serving: " not in worker.log.read_text():
        assert worker.process.poll() is None, worker.log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert served(worker) == first
    make_certificate(tmp_path, "second")
    second = cert.read_text()
    deadline = time.monotonic() + WITHIN_S
    while served(worker) != second:
        assert time.monotonic() < deadline, "it still shows the old certificate"
        time.sleep(0.2)
    assert worker.stop() == 0
