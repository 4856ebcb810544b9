"""Real operator processes."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import yaml

from seesaw_cli.serve.local import free_port
from support.control_plane.processes import end
from support.control_plane.proxy import Proxy


def write_kubeconfig(proxy: Proxy, folder: Path) -> Path:
    """A file by which a client reaches the apiserver through a proxy."""
    config = folder / f"{secrets.token_hex(4)}.kubeconfig"
    config.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": proxy.url}}],
                "users": [{"name": "u", "user": {"token": "the proxy has its own"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "c",
            }
        )
    )
    return config


class Operator:
    """One operator process that looks after one namespace through a proxy."""

    def __init__(
        self,
        proxy: Proxy,
        namespace: str,
        folder: Path,
        *,
        lease: str = "",
        flags: Sequence[str] = (),
    ) -> None:
        config = write_kubeconfig(proxy, folder)
        self.log = folder / f"{namespace}.log"
        # A Lease of its own, or that of an operator which was killed would have to run out first.
        self._lease = lease or f"operator-{secrets.token_hex(4)}"
        self._port = free_port()
        self._process = self._start(config, namespace, flags)

    def _start(
        self, config: Path, namespace: str, flags: Sequence[str]
    ) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "seesaw_cli.main", "operator"),
                    "--worker-image=localhost/worker:1",
                    "--worker-cpu-image=localhost/worker-cpu:1",
                    "--router-image=localhost/router:1",
                    f"--namespace={namespace}",
                    f"--lease-namespace={namespace}",
                    f"--lease-name={self._lease}",
                    "--measure-every-s=1",
                    f"--port={self._port}",
                    *flags,
                ],
                env=os.environ | {"KUBECONFIG": str(config)},
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def num_reconciles(self) -> float | None:
        """How often it has compared what is with what is wanted; None while it does not say."""
        async with aiohttp.ClientSession() as http:
            try:
                async with http.get(f"http://127.0.0.1:{self._port}/metrics") as response:
                    lines = (await response.text()).splitlines()
            except aiohttp.ClientError:
                return None
        counts = [x for x in lines if x.startswith("seesaw_operator_reconcile_seconds_count")]
        return sum(float(line.split()[-1]) for line in counts)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM. Returns the exit code."""
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait, 20)

    def end(self) -> None:
        end(self._process)
