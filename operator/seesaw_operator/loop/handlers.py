"""kopf's watch on our resource, in threads of its own, passed on to the queue.

A watch that fails must not affect anything else: kopf ends the whole operator on one unexpected
answer, and cancels everything else in its event loop. So each namespace that is named gets an event
loop of its own, in which kopf is restarted for as long as the operator runs.
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
_STABLE_S = 120.0  # a watch that ran for that long is restarted after the first delay
_BACKOFFS_S = (1, 2, 4)
_STOPS_WITHIN_S = 1.0
# The apiserver stores objects nested up to 10,000 levels deep. Python reads them in C, which takes
# stack, and kopf compares them in Python, which counts against the limit.
_RECURSION = 100_000
_STACK_BYTES = 64 << 20

OnEvent = Callable[[str | None, Object], None]
"""Called with the type of a watch event, ``DELETED`` or any other, and the resource."""


async def follow_resources(
    namespaces: Iterable[str],
    on_event: OnEvent,
    on_restart: Callable[[str | None], Awaitable[None]],
) -> None:
    """Watch all SeesawDeployments for ever, beginning with those that exist.

    on_restart: called with a namespace, or None for all, whose watch has been restarted. No event
        reports what was deleted in between.

    Both callbacks run in the event loop of the caller.
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
            watch = _Watch(namespace, loop, stop, on_event, restarted)
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
    """The work of one thread: a kopf operator for one namespace, or for all."""

    def __init__(
        self,
        namespace: str | None,
        loop: asyncio.AbstractEventLoop,
        stop: threading.Event,
        on_event: OnEvent,
        on_restart: Callable[[str | None], None],
    ) -> None:
        self._namespace = namespace
        self._loop = loop
        self._stop = stop
        self._on_event = on_event
        self._on_restart = on_restart

    def run(self) -> None:
        """Watch until the stop event is set, and restart the watch whenever it fails."""
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
            if time.monotonic() - began_s > _STABLE_S:
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
        # Not the event of all threads: kopf would wait for it in a thread, even after a failure.
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
        async def on_event(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
            self._call(self._on_event, type, dict(body))

        return registry

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the operator's loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)


def key_of(body: Object) -> Key:
    """Return the key of a resource."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def quiet_kopf() -> None:
    """Make kopf's log lines name their object, without tracebacks of watches that are restarted."""
    logging.getLogger("kopf.objects").addFilter(_name_object)
    for part in ("running", "orchestration"):
        logging.getLogger(f"kopf._core.reactor.{part}").addFilter(_drop_noise)


def _drop_noise(record: logging.LogRecord) -> bool:
    record.exc_info = None  # the watch logs the reason itself, and is restarted
    return "OS signals are ignored" not in record.getMessage()


def _name_object(record: logging.LogRecord) -> bool:
    """Name in our log the object that kopf's line is about."""
    reference = getattr(record, "k8s_ref", None)
    if reference:
        record.about = f"{reference['namespace']}/{reference['name']}"
    return True
