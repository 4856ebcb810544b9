"""The servers that are compared, on one small synthetic model, each started as a user starts it.

Plain vLLM is a process in which nothing of Seesaw is loaded; both engines get the same flags.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from conformance.rows import API_KEY, MODEL
from seesaw_cli.serve.local import free_port

FLAGS: Final = (
    "--host=127.0.0.1",
    "--disable-uvicorn-access-log",
    "--dtype=float32",
    "--enforce-eager",
    "--max-model-len=2048",
    "--block-size=32",
    "--generation-config=vllm",
    "--kv-cache-memory-bytes=134217728",
    "--max-num-seqs=16",
    f"--served-model-name={MODEL}",
    f"--api-key={API_KEY}",
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
    "--enable-prompt-tokens-details",
    "--enable-request-id-headers",
    "--enable-server-load-tracking",
    '--structured-outputs-config={"backend": "xgrammar", "disable_any_whitespace": true}',
)
"""What plain vLLM and the worker are both started with."""

WORKER_FLAGS: Final = (
    "--decode-tensor-parallel-size=2",
    "--prefill-pipeline-parallel-size=2",
    "--reshard=always",
    "--kv-buffer-gib=0.125",
)
ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_RESPONSES_API_STORE": "1",
}
_PLAIN_ENVIRONMENT: Final = {"VLLM_PLUGINS": "", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
_START_S: Final = 240.0
_POLL_S: Final = 0.25


class NotServingError(Exception):
    """A server did not come up, or is gone."""


class Server:
    """A process that serves HTTP on a port of its own.

    Call order: :meth:`launch`, :meth:`wait`, any number of requests, :meth:`stop`.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, *, probe: str, is_plain: bool = False
    ) -> None:
        self.port = free_port()
        self.log = log
        self._command = [sys.executable, "-m", *arguments, f"--port={self.port}"]
        self._probe = probe
        self.is_resharding = "worker" in arguments
        self._environment = ENVIRONMENT | (_PLAIN_ENVIRONMENT if is_plain else {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def launch(self) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SEESAW_")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                env=inherited | self._environment,
                start_new_session=True,
            )

    def wait(self, within_s: float = _START_S) -> None:
        """Wait until it serves. Raises: NotServingError with the end of its log."""
        deadline = time.monotonic() + within_s
        while not self.is_serving():
            if not self.is_alive() or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise NotServingError(f"{self._command[2]} did not come up; {self.log}:\n{tail}")
            time.sleep(_POLL_S)

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_serving(self) -> bool:
        return _answers(f"http://127.0.0.1:{self.port}{self._probe}")

    def stop(self) -> None:
        if self._process is None:
            return
        below = []
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self._process.pid).children(recursive=True)
        segments = _collectives_of(below)
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.kill()
        self._process.wait()
        for segment in segments:
            segment.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who is asked: a name, the server that answers, and the engine behind it."""

    name: str
    server: Server
    engine: Server


def plain(model: Path, folder: Path) -> Server:
    """Plain vLLM as it is installed."""
    module = "vllm.entrypoints.openai.api_server"
    arguments = [module, f"--model={model}", *FLAGS]
    return Server(arguments, folder / "plain.log", probe="/health", is_plain=True)


def worker(model: Path, folder: Path) -> Server:
    """A worker that re-shards for every prompt."""
    arguments = ["seesaw_cli.main", "worker", str(model), *FLAGS, *WORKER_FLAGS]
    return Server(arguments, folder / "worker.log", probe="/health")


def router(engine: Server, log: Path) -> Server:
    """The router before one engine, at its defaults."""
    arguments = ["seesaw_cli.main", "router", f"--worker=http://127.0.0.1:{engine.port}"]
    return Server(arguments, log, probe="/ready")


@contextlib.contextmanager
def running(*servers: Server) -> Iterator[None]:
    """All servers, started at once and stopped at the end, the last one first."""
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.launch()
        for server in servers:
            server.wait()
        yield


def _collectives_of(processes: Sequence[psutil.Process]) -> set[Path]:
    """Shared memory of vLLM's collectives on the CPU, which vLLM leaves behind."""
    segments: set[Path] = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
                if (path := Path(line.split()[-1])).match("/dev/shm/vllm_dist_*"):
                    segments.add(path)
    return segments


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
