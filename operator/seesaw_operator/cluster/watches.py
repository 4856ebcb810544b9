"""The watches on the objects of resources. kopf watches the resources themselves."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import aiohttp
from kubernetes.aio import client, watch
from kubernetes.aio.dynamic import DynamicClient

from seesaw_operator.api.crd import GROUP, PLURAL, VERSION
from seesaw_operator.cluster.api_errors import FAILURES, error_text
from seesaw_operator.cluster.store import Object, Ref, Store, owner_of, ref_of
from seesaw_operator.names import DEPLOYMENT_LABEL

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
_TELL_EVERY_S = 60.0
_FORBIDDEN, _NOT_FOUND = 403, 404


async def until_defined(api: client.ApiClient) -> None:
    """Wait until the apiserver serves our resource: an earlier watch would never see it."""
    custom = client.CustomObjectsApi(api)
    told_s = -_TELL_EVERY_S
    while True:
        try:
            found = await custom.get_api_resources(GROUP, VERSION)
            if any(each.name == PLURAL for each in found.resources):
                return
            reason = "it is not there"
        except FAILURES as error:
            is_missing = getattr(error, "status", None) == _NOT_FOUND
            reason = "it is not there" if is_missing else str(error)
        if time.monotonic() - told_s >= _TELL_EVERY_S:
            told_s = time.monotonic()
            logger.warning(
                "waiting for the CustomResourceDefinition %s.%s: %s (the chart brings it unless "
                "crd.install is false)",
                PLURAL,
                GROUP,
                reason,
            )
        await asyncio.sleep(_RETRY_S)


async def follow(
    dynamic: DynamicClient,
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
                    dynamic=dynamic,
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
            except FAILURES as error:
                if getattr(error, "status", None) == _FORBIDDEN:
                    listed.set()  # a deleted namespace must not delay the others
                logger.warning(
                    "watching %s: %s; again in %.0f s", self.kind, error_text(error), _RETRY_S
                )
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
            if not isinstance(event, dict):  # the library passes on what is not JSON
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
