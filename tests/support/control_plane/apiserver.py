"""A real kube-apiserver over a real etcd, on the loopback address, with our CRD installed.

No controllers run, so a StatefulSet makes no pods: tests that want some put them there.
"""

import asyncio
import contextlib
import json
import os
import secrets
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from seesaw_cli.serve.local import free_port
from seesaw_operator.api.crd import definition
from support.control_plane.processes import end, until

BINARIES = Path(os.environ.get("SEESAW_CLUSTER_DIR", Path.home() / ".cache/seesaw-cluster")) / "bin"
_START_S = 60.0

Json = dict[str, Any]


class ApiServer:
    """One kube-apiserver: its address, its token, and plain JSON requests to it."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE  # its certificate is its own, made a moment ago

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        headers = {"Authorization": f"Bearer {self.token}"}
        async with aiohttp.ClientSession(self.url, connector=connector, headers=headers) as http:
            yield http

    async def ask(self, method: str, path: str, body: Json | None = None, **kind: str) -> Json:
        """A request's answer, whatever its status: an error is a Status object."""
        async with self.session() as http:
            data = None if body is None else json.dumps(body)
            headers = {"Content-Type": kind.get("kind", "application/json")}
            async with http.request(method, path, data=data, headers=headers) as response:
                if response.content_type != "application/json":  # a path that is not there yet
                    return {"kind": "Status", "message": await response.text()}
                answer: Json = await response.json()
                return answer

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints. Raises: CalledProcessError."""
        given = (f"--server={self.url}", f"--token={self.token}", "--insecure-skip-tls-verify")
        ended = subprocess.run(
            [BINARIES / "kubectl", *given, *arguments], check=True, capture_output=True, text=True
        )
        return ended.stdout

    async def create(self, path: str, body: Json) -> Json:
        return await self.ask("POST", path, body)

    async def get(self, path: str) -> Json:
        return await self.ask("GET", path)

    async def patch(self, path: str, body: Json) -> Json:
        return await self.ask("PATCH", path, body, kind="application/merge-patch+json")


@contextlib.contextmanager
def running_apiserver(folder: Path) -> Iterator[ApiServer]:
    """Both processes, ended at the end."""
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    _make_key(folder / "accounts.key")
    client, peer, port = (free_port() for _ in range(3))
    commands = [
        [
            "etcd",
            f"--data-dir={folder}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        ],
        [
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{client}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={folder}/pki",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--token-auth-file={folder}/tokens.csv",
            f"--service-account-key-file={folder}/accounts.key",
            f"--service-account-signing-key-file={folder}/accounts.key",
            "--service-account-issuer=https://kubernetes.default.svc",
        ],
    ]
    server = ApiServer(f"https://127.0.0.1:{port}", token)
    with contextlib.ExitStack() as stack:
        for program, *flags in commands:
            log = stack.enter_context((folder / f"{program}.log").open("wb"))
            process = subprocess.Popen([BINARIES / program, *flags], stdout=log, stderr=log)
            stack.callback(end, process)
        asyncio.run(_prepare(server, folder))
        yield server


async def _prepare(server: ApiServer, folder: Path) -> None:
    await until(lambda: _is_up(server), _START_S, lambda: _tail(folder / "kube-apiserver.log"))
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    crd = yaml.safe_load(yaml.safe_dump(definition()))
    made = await server.create(crds, crd)
    assert made.get("kind") == "CustomResourceDefinition", made

    async def is_served() -> bool:
        found = await server.get("/apis/seesaw.dev/v1alpha1/seesawdeployments")
        return found.get("kind") == "SeesawDeploymentList"

    await until(is_served, _START_S, lambda: "the CRD is not served")


async def _is_up(server: ApiServer) -> bool:
    try:
        async with server.session() as http, http.get("/readyz") as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


def _make_key(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]
