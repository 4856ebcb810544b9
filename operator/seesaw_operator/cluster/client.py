"""Calls to the apiserver: objects, statuses, Leases and Events."""

import datetime as dt
import logging
from collections.abc import Callable
from typing import Any

from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import ConflictError, NotFoundError, UnprocessibleEntityError

from seesaw_operator.api.crd import GROUP, KIND, VERSION
from seesaw_operator.cluster.api_errors import (
    FAILURES,
    TOO_LARGE_ADVICE,
    error_text,
    title,
    translated,
)
from seesaw_operator.cluster.encoding import CONTENT_TYPE, apply_body
from seesaw_operator.cluster.errors import RefusedError, UnavailableError
from seesaw_operator.cluster.events import last_warning
from seesaw_operator.cluster.leases import looks_after
from seesaw_operator.cluster.store import Object
from seesaw_operator.health import Metrics
from seesaw_operator.names import MANAGER, Owner
from seesaw_operator.text import one_line, shortened_bytes

logger = logging.getLogger(__name__)

_LEVELS = {"Normal": logging.INFO, "Warning": logging.WARNING}
_MOST_EVENTS = 200
_MOST_NOTE_BYTES = 1024  # the apiserver's limit
_MOST_BYTES = 3 << 20  # more than that the apiserver does not even read to its end


class Cluster:
    """Reads and writes objects. Requires: ``dynamic`` has been entered as a context."""

    def __init__(
        self,
        dynamic: DynamicClient,
        metrics: Metrics,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._dynamic = dynamic
        self._metrics = metrics
        self._may_write = may_write

    async def apply(self, manifest: Object, *, is_there: bool) -> Object:
        """Create an object or make it match the manifest, and return it. Idempotent.

        is_there: whether the object is known to exist, so that fields of other managers may be
            overwritten. An object that somebody else has created meanwhile is left to them.

        Raises: RefusedError with the apiserver's message; UnavailableError.
        """
        with translated(manifest):
            resource = await self._resource(manifest)
            try:
                return await self._send(resource, manifest, is_forced=is_there)
            except UnprocessibleEntityError:
                if not is_there:
                    raise
                await self._replace(resource, manifest)
                return await self._send(resource, manifest)

    async def _replace(self, resource: Any, manifest: Object) -> None:
        """Replace each part of an object by that of the manifest, whoever has written it.

        Applying only adds to keyed lists, such as a Service's ports, and removes nothing that
        others own. The apiserver may refuse the result for ever.
        """
        metadata = manifest["metadata"]
        parts = manifest.keys() - {"apiVersion", "kind", "metadata"}
        changes = [{"op": "add", "path": f"/{part}", "value": manifest[part]} for part in parts]
        await self._dynamic.request(
            "patch",
            resource.path(name=metadata["name"], namespace=metadata["namespace"]),
            body=changes,
            content_type="application/json-patch+json",
            field_manager=MANAGER,
        )
        logger.warning("%s was changed by others and is put back", title(manifest))
        self._metrics.writes.labels(kind=manifest["kind"]).inc()

    async def is_wanted(self, owner: Owner) -> bool:
        """Whether the resource with this uid exists and is not being deleted.

        Raises: RefusedError, UnavailableError.
        """
        found = await self.find(
            {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "metadata": {"name": owner.name, "namespace": owner.namespace},
            }
        )
        if found is None:
            return False
        metadata = found["metadata"]
        return metadata["uid"] == owner.uid and "deletionTimestamp" not in metadata

    async def uids(self, namespace: str | None) -> set[str]:
        """Return the uids of all resources in a namespace, or in all namespaces.

        Raises: RefusedError, UnavailableError.
        """
        about = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": "all"}}
        with translated(about):
            found = await (await self._resource(about)).get(namespace=namespace)
        return {item["metadata"]["uid"] for item in found.to_dict()["items"]}

    async def find(self, manifest: Object) -> Object | None:
        """Return the object of that kind and name, whoever created it; None if there is none.

        Raises: RefusedError, UnavailableError.
        """
        metadata = manifest["metadata"]
        with translated(manifest):
            resource = await self._resource(manifest)
            try:
                found = await resource.get(name=metadata["name"], namespace=metadata["namespace"])
            except NotFoundError:
                return None
        body: Object = found.to_dict()
        return body

    async def write_status(self, namespace: str, name: str, status: dict[str, Any]) -> bool:
        """Write a resource's status. Returns False if the resource is gone.

        Raises: RefusedError, UnavailableError.
        """
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": name, "namespace": namespace},
            "status": status,
        }
        with translated(body):
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

    async def _send(self, resource: Any, manifest: Object, *, is_forced: bool = True) -> Object:
        """Send one server-side apply to an object or a subresource, and return the result."""
        body = apply_body(manifest)
        if len(body) > _MOST_BYTES:
            raise RefusedError(f"{title(manifest)}: {len(body)} bytes: {TOO_LARGE_ADVICE}")
        if not self._may_write():
            raise UnavailableError(f"{title(manifest)}: the Lease may be another operator's by now")
        metadata = manifest["metadata"]
        path = resource.path(name=metadata["name"], namespace=metadata["namespace"])
        applied = await self._dynamic.request(
            "patch",
            path,
            body=body,
            content_type=CONTENT_TYPE,
            field_manager=MANAGER,
            force_conflicts=is_forced,
        )
        logger.debug("applied %s", title(manifest))
        self._metrics.writes.labels(kind=manifest["kind"]).inc()
        made: Object = applied.to_dict()
        return made

    async def claim(self, resource: Object, operator: str) -> bool:
        """Record the operator that manages a resource, unless somebody has changed it meanwhile.

        Raises: RefusedError, UnavailableError.
        """
        metadata = resource["metadata"]
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {key: metadata[key] for key in ("name", "namespace", "resourceVersion")},
            "status": (resource.get("status") or {}) | {"managedBy": operator},
        }
        with translated(body):
            sub = (await self._resource(body)).status
            try:
                await self._send(sub, body)
            except (NotFoundError, ConflictError):
                return False
        return True

    async def is_operator_alive(self, operator: str, namespace: str) -> bool:
        """Whether the Lease ``NAMESPACE/NAME`` is held by one that watches a namespace.

        Returns True if that cannot be determined.
        """
        home, _, name = operator.partition("/")
        try:
            leases = await self._dynamic.resources.get(
                api_version="coordination.k8s.io/v1", kind="Lease"
            )
            found = (await leases.get(namespace=home, name=name)).to_dict()
        except NotFoundError:
            return False
        except FAILURES as error:
            logger.warning("the Lease %s cannot be read: %s", operator, error_text(error))
            return True
        return looks_after(found, namespace, dt.datetime.now(dt.UTC))

    async def warning(self, namespace: str, kind: str, uid: str) -> str | None:
        """Return the last Event about an object, if it is a warning and can be read."""
        about = f"involvedObject.kind={kind},involvedObject.uid={uid}"
        try:
            events = await self._dynamic.resources.get(api_version="v1", kind="Event")
            found = await events.get(namespace=namespace, field_selector=about, limit=_MOST_EVENTS)
        except FAILURES as error:
            logger.warning(
                "the events of the %s %s cannot be read: %s", kind, uid, error_text(error)
            )
            return None
        return last_warning(found.to_dict()["items"])

    async def record(self, resource: Object, kind: str, reason: str, message: str) -> None:
        """Log a message about a resource, and record it as an Event of kind Normal or Warning.

        The status says the same, so a failure is only logged.
        """
        logger.log(_LEVELS[kind], "%s: %s", reason, message)
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
            "note": shortened_bytes(one_line(message), _MOST_NOTE_BYTES),
            "regarding": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        }
        try:
            events = await self._dynamic.resources.get(api_version="events.k8s.io/v1", kind="Event")
            await self._dynamic.create(events, body=event)
        except FAILURES as error:
            logger.warning("the event %s was not recorded: %s", reason, error_text(error))
