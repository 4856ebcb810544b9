"""A router finds its workers by a real apiserver's EndpointSlices, and outlives a cut watch.

Slices cannot name a loopback address, so that of these workers is one to which no packet ever
leaves the machine; that workers so found are asked is what the end-to-end tests show.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import aiohttp

from seesaw_cli.serve.local import free_port
from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.operators import write_kubeconfig
from support.control_plane.processes import end, until
from support.control_plane.proxy import Proxy
from support.control_plane.resources import make_namespace
from support.fake_worker.router import router_state_of

FOUND_S = 30.0
NOWHERE = "255.255.255.255"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/routed/endpointslices"


def endpoint_slice(name: str, port: int) -> Json:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "workers"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}],
        "endpoints": [{"addresses": [NOWHERE], "conditions": {"ready": True}}],
    }


def start_router(port: int, kubeconfig: Path, log: Path) -> "subprocess.Popen[bytes]":
    command = [*(sys.executable, "-m", "seesaw_cli.main", "router"), f"--port={port}"]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, "--service=routed/workers"],
            env=os.environ | {"KUBECONFIG": str(kubeconfig)},
            stdout=output,
            stderr=output,
        )


async def known(url: str) -> set[str] | None:
    """The workers that a router knows of; None while it does not answer."""
    try:
        async with aiohttp.ClientSession() as http:
            return {worker.url for worker in (await router_state_of(http, url)).workers}
    except aiohttp.ClientError:
        return None


async def test_a_router_follows_a_service_through_changes_and_a_cut_watch(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    await make_namespace(apiserver, "routed")
    port, log = free_port(), tmp_path / "router.log"
    url = f"http://127.0.0.1:{port}"
    async with Proxy(apiserver).running() as proxy:
        router = start_router(port, write_kubeconfig(proxy, tmp_path), log)

        async def until_known(*ports: int) -> None:
            async def is_so() -> bool:
                return await known(url) == {f"http://{NOWHERE}:{p}" for p in ports}

            await until(is_so, FOUND_S, lambda: f"{ports}: {log.read_text()[-2000:]}")

        async def a_watch_is_cut() -> bool:  # the list alone may have told of the first
            return proxy.cut() >= 1

        try:
            await until_known()
            made = await apiserver.create(SLICES, endpoint_slice("first", 8000))
            assert made["kind"] == "EndpointSlice", made
            await until_known(8000)
            await until(a_watch_is_cut, FOUND_S, lambda: "it watches nothing")
            await apiserver.create(SLICES, endpoint_slice("second", 8001))
            await until_known(8000, 8001)
            await apiserver.ask("DELETE", f"{SLICES}/first")
            await until_known(8001)
            async with aiohttp.ClientSession() as http, http.get(f"{url}/health") as response:
                assert response.status == 200
        finally:
            await asyncio.to_thread(end, router)
