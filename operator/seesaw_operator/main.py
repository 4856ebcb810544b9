"""The operator process: acquire the Lease, then watch, reconcile and measure."""

import asyncio
import logging
import os
import signal
import time

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.dynamic import DynamicClient
from prometheus_client import CollectorRegistry

from seesaw_core.errors import InputError
from seesaw_operator.cluster.client import Cluster
from seesaw_operator.cluster.election import Lease
from seesaw_operator.cluster.errors import RefusedError, UnavailableError
from seesaw_operator.cluster.store import Key, Object, Store, owner_of
from seesaw_operator.cluster.watches import follow, until_defined
from seesaw_operator.health import Metrics, ReconcileResult, served
from seesaw_operator.loop.handlers import follow_resources, key_of, quiet_kopf
from seesaw_operator.loop.reconcile import Reconciler
from seesaw_operator.loop.workqueue import WorkQueue
from seesaw_operator.objects.profiles import Profiles, read_profiles
from seesaw_operator.settings import OperatorSettings
from seesaw_operator.status.measure import Meter

logger = logging.getLogger(__name__)

_END_S = 2.5
_WORKERS_AT_ONCE = 1024  # connections; some workers may hang


async def run(settings: OperatorSettings) -> int:
    """Run until a signal arrives. Returns the exit code: 1 if the operator could not continue.

    Raises: InputError if no cluster is configured, or a profile is invalid.
    """
    profiles = read_profiles(settings.profiles)
    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            # The library reads the variable only once, when it is imported.
            await config.load_kube_config(config_file=os.environ.get("KUBECONFIG"))
        except (config.ConfigException, OSError) as error:
            raise InputError(
                f"no Kubernetes: this is no pod, and there is no kubeconfig ({error}); set "
                "KUBECONFIG"
            ) from error
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    async with _connected() as api, served(registry, settings.port):
        leading = asyncio.create_task(_lead_while_elected(settings, profiles, api, metrics))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((leading, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        has_ended = leading.done() and not stop.is_set()
        leading.cancel()
        try:
            await leading
        except asyncio.CancelledError:
            pass
        except Exception:
            logger.exception("cannot continue")
        return 1 if has_ended else 0


def _connected() -> client.ApiClient:
    """Return a client without a limit of connections.

    Each watch holds one, and the Lease must never wait for one. The queue bounds concurrent calls.
    """
    configuration = client.Configuration.get_default_copy()
    configuration.connection_pool_maxsize = 0
    return client.ApiClient(configuration)


async def _lead_while_elected(
    settings: OperatorSettings,
    profiles: Profiles,
    api: client.ApiClient,
    metrics: Metrics,
) -> None:
    """Wait for the Lease, then lead. Returns once the Lease is lost."""
    lease = Lease(api, settings.lease_namespace, settings.lease_name, settings.namespaces)
    async with lease.held() as lost:
        logger.info("leading")
        metrics.leads.set(1)
        leading = asyncio.create_task(_lead(settings, profiles, api, metrics, lease))
        losing = asyncio.create_task(lost.wait())
        try:
            await asyncio.wait((leading, losing), return_when=asyncio.FIRST_COMPLETED)
            if losing.done():
                logger.error("the Lease is lost: another operator may hold it")
                return
            await leading
        finally:
            metrics.leads.set(0)
            for task in (leading, losing):
                task.cancel()
            left_s = _END_S if lost.is_set() else None
            _, running = await asyncio.wait((leading, losing), timeout=left_s)
            if running:  # a library that does not return must not keep a former leader alive
                logger.error("cannot shut down within %.0f s", _END_S)
                os._exit(1)


async def _lead(
    settings: OperatorSettings,
    profiles: Profiles,
    api: client.ApiClient,
    metrics: Metrics,
    lease: Lease,
) -> None:
    """Watch, reconcile and measure for ever. Requires: this operator holds the Lease."""
    store = Store()
    is_listed = asyncio.Event()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_WORKERS_AT_ONCE)) as http,
        DynamicClient(api) as dynamic,
        asyncio.TaskGroup() as tasks,
    ):

        async def work(key: Key) -> None:
            await is_listed.wait()  # otherwise objects that exist would be applied again
            began, result = time.monotonic(), ReconcileResult.FAILED
            try:
                requeue_s = await reconciler.reconcile(key)
                result = ReconcileResult.DONE
                if requeue_s is not None:
                    queue.add_later(key, requeue_s)
            finally:
                seconds = time.monotonic() - began
                metrics.reconciles.labels(result=result).observe(seconds)

        queue = WorkQueue(work)
        cluster = Cluster(dynamic, metrics, may_write=lambda: lease.is_certain)
        meter = Meter(store, http, on_change=queue.touch)
        reconciler = Reconciler(
            cluster=cluster,
            store=store,
            measurements=meter,
            settings=settings,
            profiles=profiles,
        )

        def on_child_change(body: Object) -> None:
            key = owner_of(body)
            if key is not None:
                queue.touch(key)

        def on_resource_event(kind: str | None, body: Object) -> None:
            if kind == "DELETED":
                store.drop_resource(key_of(body), body["metadata"]["uid"])
            else:
                store.put_resource(body)
            queue.add(key_of(body))

        async def on_watch_restart(namespace: str | None) -> None:
            for key in await _drop_deleted(cluster, store, namespace):
                queue.add(key)

        quiet_kopf()
        await until_defined(api)
        tasks.create_task(
            follow(dynamic, store, on_child_change, settings.namespaces, is_ready=is_listed.set)
        )
        tasks.create_task(
            follow_resources(settings.namespaces, on_resource_event, on_watch_restart)
        )
        tasks.create_task(meter.run(settings.measure_every_s))
        tasks.create_task(_resync(store, queue, settings.resync_s))
        try:
            await asyncio.Event().wait()
        finally:
            await queue.close()


async def _drop_deleted(cluster: Cluster, store: Store, namespace: str | None) -> list[Key]:
    """Drop the resources that no longer exist from the store, by one call, and return their keys.

    If the call fails, nothing is dropped.
    """
    known = [key for key in store.resources() if namespace in (None, key.namespace)]
    if not known:
        return []
    try:
        existing = await cluster.uids(namespace)
    except (RefusedError, UnavailableError):
        return []
    deleted = []
    for key in known:
        resource = store.resource(key)
        if resource is not None and resource["metadata"]["uid"] not in existing:
            store.drop_resource(key, resource["metadata"]["uid"])
            deleted.append(key)
    return deleted


async def _resync(store: Store, queue: WorkQueue, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        for key in store.resources():
            queue.add(key)
