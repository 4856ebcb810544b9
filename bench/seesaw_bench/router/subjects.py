"""The proxies that are compared, each a process of its own before the same upstream."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from seesaw_core.errors import EngineDiedError

_START_S = 120.0
_PROCESS_CLOCK = 2  # clock_getcpuclockid(3) on Linux; /proc counts in steps of 10 ms
_NGINX = """\
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-errors.log; worker_processes 1;
events {{ worker_connections 10000; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  upstream engine {{ server 127.0.0.1:{upstream}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s; client_max_body_size 64m;
    }}
  }}
}}
"""
_LITELLM = """\
model_list:
  - model_name: bench
    litellm_params:
      model: text-completion-openai/bench
      api_base: "http://127.0.0.1:{upstream}/v1"
      api_key: none
litellm_settings: {{telemetry: false, request_timeout: 600}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A proxy that runs: its name, where it listens, and its process."""

    name: str
    port: int
    process: psutil.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """Processor seconds so far, of all its processes."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(OSError):
                total += time.clock_gettime(~process.pid << 3 | _PROCESS_CLOCK)
        return total

    def num_connections(self) -> int:
        """Clients' and upstream's, of all its processes."""
        total = 0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                total += len(process.net_connections("tcp"))
        return total

    def memory_bytes(self) -> int:
        """Memory of its own, of all its processes."""
        total = 0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                total += int(process.memory_full_info().uss)
        return total

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """The engine's stand-in. Yields its port."""
    port = free_port()
    command = [sys.executable, "-m", "seesaw_bench.router.upstream", str(port)]
    with _running("upstream", command, port, folder):
        yield port


@contextlib.contextmanager
def seesaw(engine: int, folder: Path, checkout: Path | None = None) -> Iterator[Subject]:
    """Seesaw's router, of the running program or of another checkout of it."""
    port = free_port()
    name = "seesaw router" if checkout is None else "other checkout"
    command = [sys.executable, "-m", "seesaw_cli.main", "router", f"--port={port}"]
    command += [f"--worker=http://127.0.0.1:{engine}", "--light-requests=100000"]
    environment = None if checkout is None else os.environ | {"PYTHONPATH": _sources(checkout)}
    with _running(name, command, port, folder, environment) as subject:
        yield subject


@contextlib.contextmanager
def nginx(engine: int, folder: Path) -> Iterator[Subject]:
    """Debian's nginx as a plain proxy."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, upstream=engine, port=port))
    command = [find_nginx() or "nginx", "-c", str(config), "-p", str(folder)]
    with _running("nginx", command, port, folder) as subject:
        yield subject


@contextlib.contextmanager
def litellm(program: Path, engine: int, folder: Path) -> Iterator[Subject]:
    """LiteLLM's proxy, from an environment of its own."""
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM.format(upstream=engine))
    command = [str(program), f"--config={config}", "--host=127.0.0.1", f"--port={port}"]
    with _running("litellm", command, port, folder) as subject:
        yield subject


def find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _running(
    name: str,
    command: list[str],
    port: int,
    folder: Path,
    environment: dict[str, str] | None = None,
) -> Iterator[Subject]:
    log = folder / f"{name.replace(' ', '-')}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        deadline = time.monotonic() + _START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise EngineDiedError(f"{name} did not come up:\n{tail}")
            time.sleep(0.2)
        yield Subject(name=name, port=port, process=psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _sources(checkout: Path) -> str:
    """The import path of a checkout. It goes before what is installed."""
    parts = ("core", "operator", "router", "worker", "cli")
    return os.pathsep.join(str(checkout.absolute() / part) for part in parts)


def _answers(port: int) -> bool:
    """Whether a completion comes back."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions",
        data=b'{"model": "bench", "prompt": "now", "max_tokens": 1}',
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False
