"""A Prometheus that scrapes a router, workers of both modes and an operator, as the chart's
monitors would have it: it loads the alerts, and every query of the dashboard has an answer."""

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from seesaw_cli.serve.local import LocalWorker, free_port
from seesaw_core.reading import read_router_state
from seesaw_core.router_messages import RoutedWorker
from seesaw_worker.synthetic import TINY, write_checkpoint
from support.chart_release.helm import CHART
from support.cluster_client.kubectl import BINARIES
from support.control_plane.apiserver import ApiServer
from support.control_plane.processes import end, until
from support.control_plane.resources import deploy, operated

PROMETHEUS = BINARIES / "prometheus"
MODEL = "tiny"
LOADS_S = 240.0
Target = tuple[str, dict[str, str]]  # an address and its labels
# What a server that has had no trouble, or has no elastic worker behind it, has no series of.
OF_TROUBLE = ("refused", "unserved", "broken", "untaken", "retries", "ejected", "elastic_tokens")

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not PROMETHEUS.exists(), reason="`make chart-tools` builds Prometheus (Go)"),
]


async def test_prometheus_answers_every_query_from_what_is_served(
    defined: ApiServer, tmp_path: Path
) -> None:
    port = free_port()
    async with (
        operated(defined, "one", tmp_path, f"--port={port}"),
        served(tmp_path) as (router, worker),
        elastic(tmp_path) as instances,
    ):
        await deploy(defined, "one", {"model": {"uri": "x"}, "accelerator": {"count": 1}})
        targets = {
            "seesaw": (f"127.0.0.1:{port}", {}),
            "one/seesaw-routers": (router, {"pod": "llama-router-0"}),
            "one/seesaw-workers": (worker, {"pod": "llama-worker-0"}),
            "one/seesaw-elastic": (instances, {"pod": "rings-worker-0"}),
        }
        async with scraped(targets, tmp_path) as prometheus:
            await answers_come(prometheus, router, instances)
            rules = (await prometheus.ask("rules"))["groups"]
    told = [rule for group in rules for rule in group["rules"]]
    assert {rule["health"] for rule in told} == {"ok"}, told
    assert not [rule["name"] for rule in told if rule["state"] == "firing"]


class Prometheus:
    """A Prometheus server by its address."""

    def __init__(self, url: str, log: Path) -> None:
        self.log = log
        self._url = url

    async def ask(self, what: str, **given: str) -> Any:
        """An answer's data. Raises: AssertionError with Prometheus' own words."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self._url}/api/v1/{what}", params=given) as response,
        ):
            answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]


async def answers_come(prometheus: Prometheus, *servers: str) -> None:
    """Send requests until each query has an answer."""
    asked = dict(shown())
    missing = {name for name in asked if not any(f"_{word}" in name for word in OF_TROUBLE)}
    for query in asked.values():
        await prometheus.ask("query", query=query)  # which it understands, come what may

    async def have_come() -> bool:
        for server in servers:
            await request(server)
        for name in sorted(missing):
            if (await prometheus.ask("query", query=asked[name]))["result"]:
                missing.discard(name)
        return not missing

    await until(have_come, 90.0, lambda: f"{sorted(missing)}\n{prometheus.log.read_text()[-2000:]}")


def shown() -> list[tuple[str, str]]:
    """The dashboard's queries, for all resources of all namespaces."""
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    found = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "20s")
            query = query.replace("$namespace", ".+").replace("$deployment", ".+")
            found.append((f"{panel['title']}: {target['expr']}", query))
    return found


async def request(server: str) -> None:
    body = {"model": MODEL, "prompt": "a b c d", "max_tokens": 8, "ignore_eos": True}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"http://{server}/v1/completions", json=body) as response,
    ):
        assert response.status == 200, await response.text()


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """A router and a worker behind it that re-shards, by their addresses."""
    write_checkpoint(folder / MODEL, TINY)
    router, log = f"127.0.0.1:{free_port()}", folder / "serve.log"
    flags = ("--dtype=float32", "--enforce-eager", "--max-model-len=2048", "-tp=2")
    sizes = ("--kv-cache-memory-bytes=134217728", "--kv-buffer-gib=0.05", "--reshard=always")
    command = [
        *(sys.executable, "-m", "seesaw_cli.main", "serve", str(folder / MODEL)),
        *(f"--port={router.rpartition(':')[2]}", f"--served-model-name={MODEL}", *flags, *sizes),
    ]
    process = started(command, log)
    workers: list[RoutedWorker] = []

    async def is_ready() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        with contextlib.suppress(aiohttp.ClientError):
            async with (
                aiohttp.ClientSession(f"http://{router}", raise_for_status=True) as http,
                http.get("/ready"),
                http.get("/seesaw/state") as response,
            ):
                workers.extend(read_router_state(await response.read()).workers)
        return bool(workers)

    try:
        await until(is_ready, LOADS_S, lambda: log.read_text()[-3000:])
        yield router, workers[0].url.removeprefix("http://")
    finally:
        await asyncio.to_thread(end, process)


@contextlib.asynccontextmanager
async def elastic(folder: Path) -> AsyncIterator[str]:
    """A worker of two elastic instances, by its address."""
    log = folder / "elastic.log"
    flags = (
        *("--elastic-instances=2", "--dtype=float32", "--enforce-eager"),
        *("--max-model-len=1024", "--kv-cache-memory-bytes=8388608"),
    )
    worker = LocalWorker(folder / MODEL, [*flags, f"--served-model-name={MODEL}"], log=log)
    try:
        await asyncio.to_thread(worker.start)  # the operator's proxy needs the event loop
        yield worker.url.removeprefix("http://")
    finally:
        await asyncio.to_thread(worker.stop)


@contextlib.asynccontextmanager
async def scraped(targets: dict[str, Target], folder: Path) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes addresses, by job, with the labels that monitors would give."""
    common = {"namespace": "one", "seesaw_dev_deployment": "llama"}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(CHART / "files/rules.yaml")],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [{"targets": [address], "labels": common | labels}],
            }
            for job, (address, labels) in targets.items()
        ],
    }
    file, log = folder / "prometheus.yaml", folder / "prometheus.log"
    file.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        *(str(PROMETHEUS), f"--config.file={file}", f"--web.listen-address={address}"),
        f"--storage.tsdb.path={folder / 'series'}",
    ]
    process = started(command, log)
    prometheus = Prometheus(f"http://{address}", log)

    async def scrapes() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            found = (await prometheus.ask("targets"))["activeTargets"]
        except (aiohttp.ClientError, ValueError):
            return False
        return {target["health"] for target in found} == {"up"} and len(found) == len(targets)

    try:
        await until(scrapes, 60.0, lambda: log.read_text()[-3000:])
        yield prometheus
    finally:
        await asyncio.to_thread(end, process)


def started(command: list[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as lines:
        return subprocess.Popen(command, stdout=lines, stderr=lines)
