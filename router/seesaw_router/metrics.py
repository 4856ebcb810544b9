"""The router's Prometheus metrics."""

from collections.abc import Mapping
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from seesaw_core.routing.pools import Pool
from seesaw_core.routing.waves import ReleaseReason


class Metrics:
    """The ``seesaw_router_`` metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "seesaw_router_requests",
            "Requests by status; 499 if the client left.",
            ["status"],
            registry=registry,
        )
        self.running = Gauge(
            "seesaw_router_running_requests",
            "Requests that are inside the router.",
            registry=registry,
        )
        self.queued = Gauge(
            "seesaw_router_queued_requests", "Requests that wait for a worker.", registry=registry
        )
        self.refused = Counter(
            "seesaw_router_refused",
            "Requests refused because the queue was full.",
            registry=registry,
        )
        self.retries = Counter(
            "seesaw_router_retries",
            "Attempts that were repeated on another worker.",
            registry=registry,
        )
        self.failures = Counter(
            "seesaw_router_worker_failures",
            "Failed attempts: unreached, lost, silent, malformed, unavailable, error.",
            ["worker", "reason"],
            registry=registry,
        )
        self.unserved = Counter(
            "seesaw_router_unserved",
            "Requests refused because no worker had served for too long.",
            registry=registry,
        )
        self.ejected = Gauge(
            "seesaw_router_ejected_workers",
            "Ejected workers: they failed, or refused requests that others answer.",
            ["reason"],
            registry=registry,
        )
        self.broken = Counter(
            "seesaw_router_broken_answers",
            "Answers cut short because the worker was lost or the router ended.",
            registry=registry,
        )
        self.untaken = Counter(
            "seesaw_router_untaken_answers",
            "Answers given up because too many waited for their clients.",
            registry=registry,
        )
        self.released = Counter(
            "seesaw_router_released_prompts",
            "Prompts sent to workers, by the reason for their release.",
            ["reason"],
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "seesaw_router_queue_seconds",
            "Seconds that requests waited for a worker.",
            buckets=(0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
            registry=registry,
        )
        self.workers = Gauge(
            "seesaw_router_workers",
            "Known workers, by whether they take requests.",
            ["serving"],
            registry=registry,
        )
        self.pools = Gauge(
            "seesaw_router_elastic_tokens",
            "Tokens of an elastic worker's pool, by state: capacity, free, queued before a prompt.",
            ["worker", "state"],
            registry=registry,
        )
        # Looking up labels costs more than counting.
        self._of_status = lru_cache(lambda status: self.requests.labels(status=str(status)))
        self._of_reason = {each: self.released.labels(reason=each) for each in ReleaseReason}

    def count_status(self, status: int) -> None:
        """Count a request that has ended."""
        self._of_status(status).inc()

    def show_pools(self, pools: Mapping[str, Pool | None]) -> None:
        """Show the pools of elastic workers, by the worker's name, and no others."""
        self.pools.clear()
        for worker, pool in pools.items():
            if pool is not None:
                self.pools.labels(worker=worker, state="capacity").set(pool.capacity_tokens)
                self.pools.labels(worker=worker, state="free").set(pool.free_tokens)
                self.pools.labels(worker=worker, state="queued").set(pool.queued_tokens)

    def count_released(self, count: int, reason: ReleaseReason) -> None:
        """Count prompts that were released to a worker."""
        self._of_reason[reason].inc(count)
