"""A worker on this machine that another command starts and stops: demo, bench or a test."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from seesaw_core.errors import EngineDiedError
from seesaw_core.messages import WorkerState
from seesaw_core.reading import read_state
from seesaw_worker.processes.supervisor import PARENT_PID_VARIABLE

_POLL_S = 0.2


class LocalWorker:
    """A worker process on a free port of the loopback address.

    Call order: as a context manager, inside which the server is healthy. Raises: EngineDiedError
    with the end of its log if it does not start. ``tell`` gets the progress of the start.
    """

    def __init__(
        self,
        model: Path,
        flags: Sequence[str],
        *,
        log: Path,
        start_timeout_s: float = 300.0,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.model = str(model)
        self.port = free_port()
        self.log = log
        self.start_s = 0.0
        self._start_timeout_s = start_timeout_s
        self._tell = tell
        self._last_progress = ""
        self._command = [
            sys.executable,
            "-m",
            "seesaw_cli.main",
            "worker",
            self.model,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--disable-uvicorn-access-log",
            *flags,
        ]
        self._began_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "the worker runs only inside the context"
        return self._process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it is healthy."""
        self.launch()
        try:
            self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start without waiting. The worker stops when this process ends, even if it is killed."""
        self._began_s = time.monotonic()
        more = {"HF_HUB_OFFLINE": "1", PARENT_PID_VARIABLE: str(os.getpid())}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=os.environ | more
            )

    def wait_until_healthy(self) -> None:
        """Wait until the worker serves. Raises: EngineDiedError if it ends or takes too long."""
        while not self.is_healthy():
            code = self.process.poll()
            waited = time.monotonic() - self._began_s
            if code is not None or waited > self._start_timeout_s:
                tail = self.log.read_text(errors="replace")[-4000:]
                raise EngineDiedError(f"the worker did not start (exit code {code}):\n{tail}")
            time.sleep(_POLL_S)
        self.start_s = time.monotonic() - self._began_s

    def stop(self, timeout_s: float = 60.0) -> int | None:
        """Drain and wait for the end. Returns the exit code."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as response:  # noqa: S310
                return bool(response.status == 200)
        except urllib.error.HTTPError as answer:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                self._relay(str(json.load(answer)["status"]))
            return False
        except OSError:
            return False

    def _relay(self, progress: str) -> None:
        if progress != self._last_progress:
            self._last_progress = progress
            self._tell(progress)

    def state(self) -> WorkerState:
        """Return the worker's state. Raises: MessageError if it cannot be read."""
        with urllib.request.urlopen(f"{self.url}/seesaw/state", timeout=10) as response:  # noqa: S310
            return read_state(response.read())


def free_port() -> int:
    """Return a port of the loopback address that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
