"""Polls workers and sums up their figures per resource. No other code talks to workers."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from seesaw_core.errors import MessageError
from seesaw_core.messages import WorkerState
from seesaw_core.reading import read_state
from seesaw_core.resharding.policy import Phase
from seesaw_operator.api.owned import ENGINE
from seesaw_operator.api.status import ElasticFigures, Measured, Plan
from seesaw_operator.cluster.store import Key, Object, Store
from seesaw_operator.names import WORKER
from seesaw_operator.status import pods
from seesaw_operator.status.elastic import Instances, figures_of, instances_of
from seesaw_operator.status.layout_plans import agreed, plan_of
from seesaw_operator.status.observed import component_of

logger = logging.getLogger(__name__)

_TIMEOUT_S = 4.0
_WINDOW_S = 60.0
_MOST = 2.0**63
_MAX_INTEGER = 2**63 - 1
_TOKENS = "vllm:generation_tokens_total"
_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
_MOST_SAMPLES = 1024
_MAX_ANSWER_BYTES = 256 << 10
_UNREADABLE = (aiohttp.ClientError, MessageError, TimeoutError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The figures of one worker. Units: buffer sizes in blocks.

    expected_tokens_per_s, expected_running: what the worker's plan predicts.
    instances: its elastic instances, if it has some.
    """

    output_tokens: float
    transitions: int
    waiting: int
    running: int
    is_prefilling: bool
    buffer_capacity: int
    buffer_free: int
    plan: Plan | None
    expected_tokens_per_s: int | None
    expected_running: int
    instances: Instances | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """The figures of all workers of a resource."""

    measured: Measured
    plan: Plan | None


class Meter:
    """Polls all workers regularly, and reports the resources whose figures have changed.

    Call order: :meth:`run` as a task.
    """

    def __init__(
        self,
        store: Store,
        http: aiohttp.ClientSession,
        on_change: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._http = http
        self._on_change = on_change
        self._now = clock
        self._known: dict[Key, _Report | None] = {}
        self._instances: dict[tuple[Key, str], Instances] = {}
        self._totals: dict[tuple[Key, str], deque[tuple[float, float]]] = {}

    def of(self, key: Key) -> Measured | None:
        known = self._known.get(key)
        return None if known is None else known.measured

    def plan_of(self, key: Key) -> Plan | None:
        """Return the plan of a resource's workers; None if they have none, or none answers."""
        known = self._known.get(key)
        return None if known is None else known.plan

    def has_measured(self, key: Key) -> bool:
        """Whether the workers of a resource have been polled since this operator leads."""
        return key in self._known

    async def run(self, every_s: float) -> None:
        """Measure for ever."""
        while True:
            await asyncio.sleep(every_s)
            await self.measure_all()

    async def measure_all(self) -> None:
        """Poll all workers once."""
        keys = set(self._store.resources())
        await asyncio.gather(*(self._measure(key) for key in keys))
        self._known = {k: v for k, v in self._known.items() if k in keys}
        self._totals = {k: v for k, v in self._totals.items() if k[0] in keys}
        self._instances = {k: v for k, v in self._instances.items() if k[0] in keys}

    async def _measure(self, key: Key) -> None:
        workers = component_of(self._store, key, WORKER, "StatefulSet").pods
        by_url = {
            url: _name(pod)
            for pod in sorted(workers, key=_name)
            if pods.is_ready(pod)
            for url in _urls(pod)
        }
        readings = await asyncio.gather(*(self._read(url) for url in by_url))
        found = {url: r for url, r in zip(by_url, readings) if r is not None}
        for _, url in [k for k in self._totals if k[0] == key and k[1] not in by_url]:
            del self._totals[key, url]
        elastic = figures_of(self._instances_by_pod(key, by_url, found))
        report = self._sum_up(key, found, elastic) if found or elastic else None
        # The first poll is news even if nobody serves: the status may hold figures from before.
        is_news = key not in self._known or report != self._known[key]
        self._known[key] = report
        if is_news:
            self._on_change(key)

    def _instances_by_pod(
        self, key: Key, by_url: Mapping[str, str], found: Mapping[str, Reading]
    ) -> dict[str, Instances]:
        """Return the instances of all workers that serve, as each reported them last.

        A busy worker that misses an answer has not got its lost instances back.
        """
        for _, url in [k for k in self._instances if k[0] == key and k[1] not in by_url]:
            del self._instances[key, url]
        for url, reading in found.items():
            if reading.instances is not None:
                self._instances[key, url] = reading.instances
        return {
            pod: instances
            for url, pod in by_url.items()
            if (instances := self._instances.get((key, url))) is not None
        }

    def _sum_up(
        self, key: Key, found: dict[str, Reading], elastic: ElasticFigures | None
    ) -> _Report:
        readings = list(found.values())
        rate = sum(self._rate(key, url, r.output_tokens) for url, r in found.items())
        capacity = sum(r.buffer_capacity for r in readings)
        used = sum(max(0, r.buffer_capacity - r.buffer_free) for r in readings)
        measured = Measured(
            tokens_per_second=_bounded(_rounded(rate)),
            transitions=_bounded(sum(r.transitions for r in readings)),
            waiting_requests=_bounded(sum(r.waiting for r in readings)),
            running_requests=_bounded(sum(r.running for r in readings)),
            buffer_used_percent=round(100 * used / capacity) if capacity else 0,
            prefill_workers=sum(r.is_prefilling for r in readings),
            prediction_error_percent=_error_percent(readings, rate),
            elastic=elastic,
        )
        return _Report(measured=measured, plan=agreed([r.plan for r in readings]))

    def _rate(self, key: Key, url: str, total: float) -> float:
        """Return tokens per second over the last minute or so."""
        now = self._now()
        history = self._totals.setdefault((key, url), deque())
        if history and total < history[-1][1]:
            history.clear()  # the worker has restarted
        history.append((now, total))
        while len(history) > 2 and now - history[1][0] >= _WINDOW_S:
            history.popleft()
        (then, before), seconds = history[0], now - history[0][0]
        return (total - before) / seconds if seconds > 0 and then < now else 0.0

    async def _read(self, url: str) -> Reading | None:
        names = "&".join(f"name[]={name}" for name in (_TOKENS, _RUNNING, _WAITING))
        try:
            state = read_state(await self._get(f"{url}/seesaw/state"))
            metrics = await self._get(f"{url}/metrics?{names}")
            return _reading(state, metrics.decode())
        except _UNREADABLE as error:
            logger.debug("%s: %r", url, error)
            return None

    async def _get(self, url: str) -> bytes:
        """Return a short answer. Raises: ValueError if there is none; aiohttp's own errors."""
        async with self._http.get(
            url,
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,  # a small compressed answer might be huge
            allow_redirects=False,
        ) as response:
            if response.status != 200:
                raise ValueError(f"its status is {response.status}")
            answer = bytearray()
            async for part in response.content.iter_any():
                answer += part
                if len(answer) > _MAX_ANSWER_BYTES:
                    raise ValueError(f"it has more than {_MAX_ANSWER_BYTES} bytes")
            return bytes(answer)


def _reading(state: WorkerState, metrics: str) -> Reading:
    """Return the figures that a worker reports. Raises: ValueError if they are invalid."""
    ours = (_TOKENS, _WAITING, _RUNNING)
    wanted = "".join(f"{line}\n" for line in metrics.split("\n") if line.startswith(ours))
    if not wanted:
        raise ValueError("it has no metric of those that are measured")
    if wanted.count("\n") > _MOST_SAMPLES:  # parsing blocks the event loop
        raise ValueError(f"it has more than {_MOST_SAMPLES} samples of what is measured")
    try:
        families = list(text_string_to_metric_families(wanted))
    except Exception as error:  # IndexError, for one
        raise ValueError(f"its metrics cannot be read: {error!r}") from error
    samples = [sample for family in families for sample in family.samples]

    def total(name: str) -> float:
        found = sum(sample.value for sample in samples if sample.name == name)
        if not 0 <= found < _MOST:
            raise ValueError(f"{name} is {found}")
        return found

    plan, part, elastic = state.plan, state.resharding, state.elastic
    blocks = None if part is None or part.buffer is None else part.buffer.blocks
    if elastic is not None:
        waiting, running = state.num_waiting, elastic.num_running
    elif part is None or blocks is None:  # without waves only vLLM reports these figures
        waiting, running = int(total(_WAITING)), int(total(_RUNNING))
    else:
        waiting, running = state.num_waiting, part.num_prefilling + part.num_decoding
    expected, at_once = None, None
    if plan is not None:
        expected = plan.expected_tokens_per_s or plan.predicted_tokens_per_s
        at_once = plan.num_running
    return Reading(
        output_tokens=total(_TOKENS),
        transitions=0 if part is None else part.transitions,
        waiting=waiting,
        running=running,
        is_prefilling=part is not None and part.phase is Phase.PREFILL,
        buffer_capacity=0 if blocks is None else blocks.capacity,
        buffer_free=0 if blocks is None else blocks.free,
        plan=plan_of(plan),
        expected_tokens_per_s=expected,
        expected_running=at_once or 0,
        instances=instances_of(elastic),
    )


def _error_percent(readings: list[Reading], rate: float) -> int | None:
    """Return how far the rate is from the prediction; None without enough load to compare."""
    expected = 0
    for each in readings:
        if each.expected_tokens_per_s is None or each.running + each.waiting < max(
            1, each.expected_running
        ):
            return None
        expected += each.expected_tokens_per_s
    return _bounded(round(100 * (rate - expected) / expected)) if expected and rate else None


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _urls(pod: Object) -> list[str]:
    address = pods.ip(pod)
    if address is None:
        return []
    host = f"[{address}]" if ":" in address else address
    engines = [c for c in pod["spec"]["containers"] if ENGINE.has(c["name"])]
    ports = [port["containerPort"] for engine in engines for port in engine.get("ports", ())]
    return [f"http://{host}:{port}" for port in ports]


def _bounded(figure: int) -> int:
    """Return a figure as the apiserver takes it, which refuses a whole status for one beyond."""
    return min(figure, _MAX_INTEGER)


def _rounded(rate: float) -> int:
    """Round to two digits, so that steady load does not cause a write of the status each time."""
    return int(float(f"{rate:.2g}"))
