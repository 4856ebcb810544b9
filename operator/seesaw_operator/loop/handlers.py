"""kopf's watch on our resource, in threads of its own, passed on to the queue.

A watch that cannot go on must harm nobody: kopf ends the whole operator for one answer that it does
not expect, and cancels what else runs in its loop when it ends. So it gets a loop of its own for
each namespace that is named, and is started again for as long as the operator runs.
"""

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import kopf

from seesaw_operator.api.crd import GROUP, PLURAL, VERSION
from seesaw_operator.cluster.store import Key, Object

logger = logging.getLogger(__name__)

_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0
_CALM_S = 120.0  # a watch that lived that long begins anew with the first delay
_BACKOFFS_S = (1, 2, 4)
_STOPS_WITHIN_S = 1.0
# The apiserver stores objects nested up to 10,000 levels deep. Python reads them in C, which takes
# stack, and kopf compares them in Python, which counts against the limit.
_RECURSION = 100_000
_STACK_BYTES = 64 << 20

Seen = Callable[[str | None, Object], None]
"""What hears of a resource: ``DELETED`` or any other kind of event, and the resource."""


async def follow_resources(
    namespaces: Iterable[str], on_seen: Seen, on_restart: Callable[[str | None], Awaitable[None]]
) -> None:
    """Follow all SeesawDeployments for ever: creation, change, deletion, those there at the start.

    ``on_restart`` hears of a namespace, None for all, whose watch has begun anew: what was deleted
    meanwhile is told by nobody. Both are called in the event loop of the caller.
    """
    loop, stop = asyncio.get_running_loop(), threading.Event()
    restarts: set[asyncio.Task[None]] = set()

    def restarted(namespace: str | None) -> None:
        async def look() -> None:
            await on_restart(namespace)

        task = loop.create_task(look())
        restarts.add(task)
        task.add_done_callback(restarts.discard)

    sys.setrecursionlimit(_RECURSION)
    threading.stack_size(_STACK_BYTES)
    try:
        places: list[str | None] = [*namespaces]
        for namespace in places or [None]:
            watch = _Watch(namespace, loop, stop, on_seen, restarted)
            threading.Thread(target=watch.run, name=f"kopf {namespace}", daemon=True).start()
    finally:
        threading.stack_size(0)
    try:
        await asyncio.Event().wait()
    finally:
        stop.set()
        for task in restarts:
            task.cancel()


class _Watch:
    """One thread's work: a kopf operator for one namespace, or for all."""

    def __init__(
        self,
        namespace: str | None,
        loop: asyncio.AbstractEventLoop,
        stop: threading.Event,
        on_seen: Seen,
        on_restart: Callable[[str | None], None],
    ) -> None:
        self._namespace = namespace
        self._loop = loop
        self._stop = stop
        self._on_seen = on_seen
        self._on_restart = on_restart

    def run(self) -> None:
        """Watch until told to stop, whatever happens to a watch."""
        delay_s = _FIRST_DELAY_S
        while True:
            began_s = time.monotonic()
            reason = "it has ended"
            try:
                asyncio.run(self._operator())
            except Exception as error:  # noqa: BLE001 - the next attempt may succeed
                reason = repr(error)
            if self._stop.is_set():
                return
            if time.monotonic() - began_s > _CALM_S:
                delay_s = _FIRST_DELAY_S
            where = self._namespace or "all namespaces"
            logger.warning(
                "the watch on %s in %s: %s; again in %.0f s", PLURAL, where, reason, delay_s
            )
            if self._stop.wait(delay_s):
                return
            delay_s = min(_LONGEST_DELAY_S, 2 * delay_s)
            self._call(self._on_restart, self._namespace)

    async def _operator(self) -> None:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.scanning.disabled = True
        settings.networking.trust_env = True  # proxy variables, as the other client reads them
        settings.networking.error_backoffs = _BACKOFFS_S
        settings.process.ultimate_exiting_timeout = None  # it would kill this process
        # Not the flag of all threads: kopf would wait for it in a thread, even after a failure.
        stop = asyncio.Event()
        stopping = asyncio.create_task(self._relay(stop))
        await kopf.operator(
            registry=self._registry(),
            settings=settings,
            standalone=True,
            identity="seesaw",  # type: ignore[arg-type] # else the user's name; there may be none
            clusterwide=self._namespace is None,
            namespaces=[] if self._namespace is None else [self._namespace],
            stop_flag=stop,
        )
        stopping.cancel()

    async def _relay(self, stop: asyncio.Event) -> None:
        while not self._stop.is_set():
            await asyncio.sleep(_STOPS_WITHIN_S)
        stop.set()

    def _registry(self) -> kopf.OperatorRegistry:
        """Level-triggered, so the kind of event does not matter; no finalizer, since Kubernetes
        deletes what a resource owns."""
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
            return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

        @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
        async def seen(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
            self._call(self._on_seen, type, dict(body))

        return registry

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the operator's loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)


def key_of(body: Object) -> Key:
    """The name of a resource."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def calm_log() -> None:
    """Let kopf's lines name their object, without the tracebacks of watches that begin again."""
    logging.getLogger("kopf.objects").addFilter(_name_object)
    for part in ("running", "orchestration"):
        logging.getLogger(f"kopf._core.reactor.{part}").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    record.exc_info = None  # the watch's own line says why, and it is tried again and again
    return "OS signals are ignored" not in record.getMessage()


def _name_object(record: logging.LogRecord) -> bool:
    """Let our log say which object kopf speaks of."""
    reference = getattr(record, "k8s_ref", None)
    if reference:
        record.about = f"{reference['namespace']}/{reference['name']}"
    return True
