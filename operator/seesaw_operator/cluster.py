"""The only code that talks to Kubernetes; but the watch on our own resource is kopf's."""

import asyncio
import contextlib
import datetime as dt
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio import client, watch
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import NotFoundError

from seesaw_operator.api.crd import GROUP, KIND, VERSION
from seesaw_operator.encoding import CONTENT_TYPE, apply_body
from seesaw_operator.errors import RefusedError, UnavailableError
from seesaw_operator.health import Metrics
from seesaw_operator.names import DEPLOYMENT_LABEL, MANAGER
from seesaw_operator.store import Object, Ref, Store, owner_of, ref_of

logger = logging.getLogger(__name__)

WATCHED = (
    ("v1", "Pod"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
)
_RETRY_S = 2.0
_MOST_EVENTS = 200
_FORBIDDEN, _TOO_MANY, _SERVER_ERROR = 403, 429, 500
_UNREACHABLE = (client.exceptions.ApiException, aiohttp.ClientError, OSError, TimeoutError)


class Cluster:
    """Writes objects and follows those that are ours. Requires: an async context around it."""

    def __init__(self, dynamic: DynamicClient, metrics: Metrics) -> None:
        self._dynamic = dynamic
        self._metrics = metrics

    async def apply(self, manifest: Object) -> Object:
        """Create an object or make it as the manifest says, and return it. Idempotent.

        Raises: RefusedError with the apiserver's words; UnavailableError.
        """
        with _translated(manifest):
            return await self._send(await self._resource(manifest), manifest)

    async def find(self, manifest: Object) -> Object | None:
        """The object of that kind and name, whoever made it; None if there is none.

        Raises: RefusedError, UnavailableError.
        """
        metadata = manifest["metadata"]
        with _translated(manifest):
            resource = await self._resource(manifest)
            try:
                found = await resource.get(name=metadata["name"], namespace=metadata["namespace"])
            except NotFoundError:
                return None
        body: Object = found.to_dict()
        return body

    async def write_status(self, namespace: str, name: str, status: dict[str, Any]) -> bool:
        """Make a resource's status as given. False if the resource is gone.

        Raises: RefusedError, UnavailableError.
        """
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace},
            "status": status,
        }
        with _translated(body):
            resource = await self._resource(body)
            try:
                await self._send(resource.status, body)
            except NotFoundError:
                return False
        return True

    async def _resource(self, manifest: Object) -> Any:
        return await self._dynamic.resources.get(
            api_version=manifest["apiVersion"], kind=manifest["kind"]
        )

    async def _send(self, resource: Any, manifest: Object) -> Object:
        """One server-side apply, to an object or a part of it. Returns what it is then."""
        metadata = manifest["metadata"]
        path = resource.path(name=metadata["name"], namespace=metadata["namespace"])
        applied = await self._dynamic.request(
            "patch",
            path,
            body=apply_body(manifest),
            content_type=CONTENT_TYPE,
            field_manager=MANAGER,
            force_conflicts=True,
        )
        self._metrics.writes.labels(kind=manifest["kind"]).inc()
        body: Object = applied.to_dict()
        return body

    async def warning(self, namespace: str, kind: str, name: str) -> str | None:
        """The latest warning recorded about an object; None if there is none to be had."""
        events = await self._dynamic.resources.get(api_version="v1", kind="Event")
        about = f"involvedObject.kind={kind},involvedObject.name={name},type=Warning"
        try:
            found = await events.get(namespace=namespace, field_selector=about, limit=_MOST_EVENTS)
        except _UNREACHABLE as error:
            logger.warning("the events of %s %s cannot be read: %s", kind, name, error)
            return None
        latest = max(found.to_dict()["items"], key=_last_seen, default=None)
        return None if latest is None else str(latest.get("message") or latest.get("reason"))

    async def record(self, resource: Object, kind: str, reason: str, message: str) -> None:
        """Record an Event about a resource. ``kind`` is Normal or Warning.

        Events are for people who look on; the status says the same, so a failure is only logged.
        """
        metadata = resource["metadata"]
        now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "generateName": f"{metadata['name']}-",
                "namespace": metadata["namespace"],
            },
            "eventTime": now.replace("+00:00", "Z"),
            "reportingController": f"{GROUP}/operator",
            "reportingInstance": MANAGER,
            "action": "Reconcile",
            "type": kind,
            "reason": reason,
            "note": message[:1000],
            "regarding": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        }
        events = await self._dynamic.resources.get(api_version="events.k8s.io/v1", kind="Event")
        try:
            await self._dynamic.create(events, body=event)
        except _UNREACHABLE as error:
            logger.warning("the event %s was not recorded: %s", reason, error)

    async def follow(
        self,
        store: Store,
        on_change: Callable[[Object], None],
        namespaces: Iterable[str],
        is_ready: Callable[[], None],
    ) -> None:
        """Keep the store's children up to date for ever; ``is_ready`` after the first lists."""
        places: list[str | None] = [*namespaces] or [None]
        listed = [asyncio.Event() for _ in WATCHED for _ in places]
        async with asyncio.TaskGroup() as tasks:
            events = iter(listed)
            for api_version, kind in WATCHED:
                for place in places:
                    one = _Follower(
                        dynamic=self._dynamic,
                        api_version=api_version,
                        kind=kind,
                        namespace=place,
                        store=store,
                        on_change=on_change,
                    )
                    tasks.create_task(one.run(next(events)))
            for event in listed:
                await event.wait()
            is_ready()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Follower:
    """Lists and watches one kind in one place."""

    dynamic: DynamicClient
    api_version: str
    kind: str
    namespace: str | None
    store: Store
    on_change: Callable[[Object], None]

    async def run(self, listed: asyncio.Event) -> None:
        while True:
            try:
                await self._once(listed)
            except _UNREACHABLE as error:
                if getattr(error, "status", None) == _FORBIDDEN:
                    listed.set()  # a namespace that is gone must not keep the others waiting
                logger.warning("watching %s: %s; again in %.0f s", self.kind, error, _RETRY_S)
                await asyncio.sleep(_RETRY_S)

    async def _once(self, listed: asyncio.Event) -> None:
        resource = await self.dynamic.resources.get(api_version=self.api_version, kind=self.kind)
        found = (
            await resource.get(namespace=self.namespace, label_selector=DEPLOYMENT_LABEL)
        ).to_dict()
        self._replace(found["items"])
        listed.set()
        watcher = watch.Watch()
        async for event in watcher.stream(
            resource.get,
            namespace=self.namespace,
            label_selector=DEPLOYMENT_LABEL,
            resource_version=found["metadata"]["resourceVersion"],
            serialize=False,
        ):
            if not isinstance(event, dict):  # the library hands on what is no JSON
                raise aiohttp.ClientPayloadError(f"the watch said {event!r}")
            self._take(event["type"], event["raw_object"])

    def _replace(self, items: list[Object]) -> None:
        seen = set()
        for item in items:
            body = {"apiVersion": self.api_version, "kind": self.kind} | item
            seen.add(ref_of(body))
            self._take("ADDED", body)
        for ref in self.store.refs(self.kind) - seen:
            if self.namespace in (None, ref.namespace):
                self._gone(ref)

    def _take(self, kind: str, body: Object) -> None:
        if kind == "DELETED":
            self._gone(ref_of(body))
        elif kind in ("ADDED", "MODIFIED"):
            self.store.put_child(body)
            if owner_of(body) is not None:
                self.on_change(body)

    def _gone(self, ref: Ref) -> None:
        body = self.store.child(ref)
        self.store.drop_child(ref)
        if body is not None:
            self.on_change(body)


@contextlib.contextmanager
def _translated(manifest: Object) -> Iterator[None]:
    """Turn a client's errors into ours: who must change something, or that it may work later."""
    try:
        yield
    except client.exceptions.ApiException as error:
        said = f"{_title(manifest)}: {_words(error)}"
        if not error.status or error.status == _TOO_MANY or error.status >= _SERVER_ERROR:
            raise UnavailableError(said) from error
        raise RefusedError(said) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise UnavailableError(f"{_title(manifest)}: {error!r}") from error


def _last_seen(event: Object) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return max(time or "" for time in times)


def _title(manifest: Object) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _words(error: client.exceptions.ApiException) -> str:
    """What the apiserver said, for people."""
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return str(error.reason)
