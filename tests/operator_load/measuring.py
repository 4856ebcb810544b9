"""One operator with many resources: while they are made, at rest, and after it starts again."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from support.control_plane.apiserver import ApiServer, Json
from support.control_plane.operators import Operator
from support.control_plane.proxy import Call, Proxy
from support.control_plane.resources import make_namespace, path, resource

NAMESPACE, LEASE = "load", "operator"  # one Lease: it is the same operator that starts again
FLAGS = ("--measure-every-s=5",)
SPEC: Json = {"model": {"uri": "org/model"}, "accelerator": {"count": 2}, "replicas": 0}
CONTROLLED = ("statefulsets", "deployments")
AT_ONCE = 16
MADE_S, QUIET_S, REST_S, CONTROL_S = 600.0, 6.0, 30.0, 1.0


@dataclass(kw_only=True)
class Costs:
    """Figures of one run."""

    count: int
    made_s: float = 0.0
    ended: int = 0
    made: Counter[str] = field(default_factory=Counter)
    rest: Counter[str] = field(default_factory=Counter)
    rest_cpu_percent: float = 0.0
    rest_mib: float = 0.0
    started_cpu_s: float = 0.0
    started: Counter[str] = field(default_factory=Counter)

    def shown(self) -> dict[str, object]:
        """By what people read."""
        each = {name: round(calls / self.count, 2) for name, calls in self.made.items()}
        return {
            "to make a resource: objects written": each["object"],
            "status writes": each["status"],
            "Events": each["event"],
            "reads": each["read"],
            "seconds until all were made and told": round(self.made_s, 1),
            "times that it ended meanwhile, and was started again": self.ended,
            f"at rest: calls in {REST_S:.0f} s": self.rest.total(),
            "CPU, percent of a core": round(self.rest_cpu_percent, 2),
            "memory, MiB": round(self.rest_mib),
            "started again: reads": self.started["read"],
            "writes": self.started.total() - self.started["read"],
            "CPU seconds until at rest": round(self.started_cpu_s, 1),
        }


async def measure(server: ApiServer, folder: Path, count: int) -> Costs:
    """Make resources, let all come to rest, start the operator again."""
    costs, names = Costs(count=count), [f"llama-{i}" for i in range(count)]
    await make_namespace(server, NAMESPACE)
    async with Proxy(server).running() as proxy:
        operator = _Watched(proxy, folder)
        try:
            began = time.monotonic()
            await _each(_make(server, name) for name in names)
            controllers = asyncio.create_task(_control(server))
            await _until_made(server, operator, count)
            costs.ended = operator.ended
            costs.made_s = time.monotonic() - began
            await _until_quiet(proxy)
            costs.made = _by_kind(proxy.calls)
            controllers.cancel()
            await _rest(proxy, operator.now, costs)
            assert await operator.now.stop() == 0
            proxy.calls.clear()
            operator.start()
            await _until_quiet(proxy)
            costs.started = _by_kind(proxy.calls)
            costs.started_cpu_s = _cpu_s(operator.now)
        finally:
            operator.now.end()
    return costs


class _Watched:
    """An operator that is started again once it has ended, as Kubernetes would."""

    def __init__(self, proxy: Proxy, folder: Path) -> None:
        self._proxy, self._folder = proxy, folder
        self.ended = 0
        self.start()

    def start(self) -> None:
        self.now = Operator(self._proxy, NAMESPACE, self._folder, lease=LEASE, flags=FLAGS)

    def look(self) -> None:
        if not self.now.is_alive:
            self.ended += 1
            self.start()


async def _rest(proxy: Proxy, operator: Operator, costs: Costs) -> None:
    calls, cpu_s = len(proxy.calls), _cpu_s(operator)
    await asyncio.sleep(REST_S)
    costs.rest = _by_kind(proxy.calls[calls:])
    costs.rest_cpu_percent = 100 * (_cpu_s(operator) - cpu_s) / REST_S
    costs.rest_mib = psutil.Process(operator.pid).memory_info().rss / 2**20


def _cpu_s(operator: Operator) -> float:
    times = psutil.Process(operator.pid).cpu_times()
    return times.user + times.system


async def _make(server: ApiServer, name: str) -> None:
    body: Json = {"apiVersion": "seesaw.dev/v1alpha1", "kind": "SeesawDeployment"}
    body |= {"metadata": {"name": name}, "spec": SPEC}
    made = await server.create(resource(NAMESPACE, "").rstrip("/"), body)
    assert made["kind"] == "SeesawDeployment", made


async def _control(server: ApiServer) -> None:
    """Say of each object what its controller would: that it is as asked for."""

    async def settle(kind: str, body: Json) -> None:
        status = {"observedGeneration": body["metadata"]["generation"], "replicas": 0}
        where = path(NAMESPACE, kind, body["metadata"]["name"])
        await server.patch(f"{where}/status", {"status": status})

    while True:
        for kind in CONTROLLED:
            items = (await server.get(path(NAMESPACE, kind)))["items"]
            new = [i for i in items if "observedGeneration" not in i.get("status", {})]
            await _each(settle(kind, body) for body in new)
        await asyncio.sleep(CONTROL_S)


async def _until_made(server: ApiServer, operator: _Watched, count: int) -> None:
    deadline = time.monotonic() + MADE_S
    while True:
        items = (await server.get(resource(NAMESPACE, "").rstrip("/")))["items"]
        told = [i.get("status", {}).get("observedGeneration") for i in items]
        if told.count(1) == count:
            return
        operator.look()
        assert time.monotonic() < deadline, f"{told.count(1)} of {count} are told"
        await asyncio.sleep(0.5)


async def _until_quiet(proxy: Proxy) -> None:
    """Wait until nothing has been asked for a while, but for the Lease."""
    deadline, seen, since = time.monotonic() + MADE_S, -1, time.monotonic()
    while time.monotonic() - since < QUIET_S or not seen:
        now = _by_kind(proxy.calls).total()
        if now != seen:
            seen, since = now, time.monotonic()
        assert time.monotonic() < deadline, "it never came to rest"
        await asyncio.sleep(0.5)


def _by_kind(calls: Iterable[Call]) -> Counter[str]:
    found: Counter[str] = Counter()
    for method, where in calls:
        if "/leases" in where:
            continue
        kind = "read" if method == "GET" else "event" if "/events" in where else "object"
        found["status" if kind == "object" and "/status" in where else kind] += 1
    return found


async def _each(calls: Iterable[Awaitable[None]]) -> None:
    """Do all, a few at once."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(work: Awaitable[None]) -> None:
        async with slots:
            await work

    await asyncio.gather(*(one(work) for work in calls))
