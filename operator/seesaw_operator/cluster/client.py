"""The only code that talks to Kubernetes; but the watch on our own resource is kopf's."""

import contextlib
import datetime as dt
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import ConflictError, NotFoundError, UnprocessibleEntityError

from seesaw_operator.api.crd import GROUP, KIND, VERSION
from seesaw_operator.cluster.encoding import CONTENT_TYPE, apply_body
from seesaw_operator.cluster.errors import RefusedError, UnavailableError
from seesaw_operator.cluster.events import last_warning
from seesaw_operator.cluster.store import Object
from seesaw_operator.health import Metrics
from seesaw_operator.names import MANAGER, Owner
from seesaw_operator.text import one_line, sanitized, shortened_bytes

logger = logging.getLogger(__name__)

UNREACHABLE = (aiohttp.ClientError, OSError, TimeoutError)
"""What a client raises that got no answer from the apiserver."""
FAILURES = (client.exceptions.ApiException, *UNREACHABLE)
"""What a client raises, with an answer or without."""

_LEVELS = {"Normal": logging.INFO, "Warning": logging.WARNING}
_MOST_EVENTS = 200
_MOST_NOTE_BYTES = 1024  # as the apiserver has it
_LEASES = 2
WATCHES = f"{GROUP}/watches"
"""On a Lease: the namespaces that its holder watches, with commas; empty for all."""
_TOO_MANY, _SERVER_ERROR = 429, 500
# What the apiserver calls its own error, and is the object's: it would be refused for ever.
_UNKNOWN_FIELD = "failed to create typed patch object"
_TOO_LARGE = ("request is too large", "message larger than max", "entity too large")
_MOST_BYTES = 3 << 20  # more than that the apiserver does not even read to its end
_SMALLER = (
    "the object is larger than Kubernetes can store: shorten env, podTemplate or annotations, or "
    "have fewer engines a pod"
)


class Cluster:
    """Writes objects and follows those that are ours. Requires: an async context around it."""

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
        """Create an object or make it as the manifest says, and return it. Idempotent.

        is_there: whether it has been found, and may be made so against others who manage it. One
        that somebody has made meanwhile is left to them. Raises: RefusedError with the
        apiserver's words; UnavailableError.
        """
        with _translated(manifest):
            resource = await self._resource(manifest)
            try:
                return await self._send(resource, manifest, is_forced=is_there)
            except UnprocessibleEntityError:
                if not is_there:
                    raise
                await self._put_right(resource, manifest)
                return await self._send(resource, manifest)

    async def _put_right(self, resource: Any, manifest: Object) -> None:
        """Replace what others have written by what the manifest says, wholly.

        Applying only adds to lists that are keyed, such as a Service's ports, and removes nothing
        that others own; what comes of it the apiserver may refuse for ever.
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
        logger.warning("%s was changed by others and is put back", _title(manifest))
        self._metrics.writes.labels(kind=manifest["kind"]).inc()

    async def is_wanted(self, owner: Owner) -> bool:
        """Whether that very resource is there, and not being deleted.

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
        """Those of all resources in a namespace, or in all of them.

        Raises: RefusedError, UnavailableError.
        """
        about = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": {"name": "all"}}
        with _translated(about):
            found = await (await self._resource(about)).get(namespace=namespace)
        return {item["metadata"]["uid"] for item in found.to_dict()["items"]}

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

    async def _send(self, resource: Any, manifest: Object, *, is_forced: bool = True) -> Object:
        """One server-side apply, to an object or a part of it. Returns what it is then."""
        body = apply_body(manifest)
        if len(body) > _MOST_BYTES:
            raise RefusedError(f"{_title(manifest)}: {len(body)} bytes: {_SMALLER}")
        if not self._may_write():
            raise UnavailableError(
                f"{_title(manifest)}: the Lease may be another operator's by now"
            )
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
        logger.debug("applied %s", _title(manifest))
        self._metrics.writes.labels(kind=manifest["kind"]).inc()
        made: Object = applied.to_dict()
        return made

    async def claim(self, resource: Object, operator: str) -> bool:
        """Write down who looks after a resource, as long as nobody has changed it meanwhile.

        Raises: RefusedError, UnavailableError.
        """
        metadata = resource["metadata"]
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {key: metadata[key] for key in ("name", "namespace", "resourceVersion")},
            "status": (resource.get("status") or {}) | {"managedBy": operator},
        }
        with _translated(body):
            sub = (await self._resource(body)).status
            try:
                await self._send(sub, body)
            except (NotFoundError, ConflictError):
                return False
        return True

    async def is_operator_alive(self, operator: str, namespace: str) -> bool:
        """Whether the Lease ``NAMESPACE/NAME`` is held by one that watches a namespace.

        Yes, if that cannot be found out.
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
            logger.warning("the Lease %s cannot be read: %s", operator, in_words(error))
            return True
        return looks_after(found, namespace, dt.datetime.now(dt.UTC))

    async def warning(self, namespace: str, kind: str, uid: str) -> str | None:
        """What was recorded last about an object, if it is a warning and can be had."""
        about = f"involvedObject.kind={kind},involvedObject.uid={uid}"
        try:
            events = await self._dynamic.resources.get(api_version="v1", kind="Event")
            found = await events.get(namespace=namespace, field_selector=about, limit=_MOST_EVENTS)
        except FAILURES as error:
            logger.warning("the events of the %s %s cannot be read: %s", kind, uid, in_words(error))
            return None
        return last_warning(found.to_dict()["items"])

    async def record(self, resource: Object, kind: str, reason: str, message: str) -> None:
        """Log what is to be told of a resource, and record it as an Event: Normal or Warning.

        Events are for people who look on; the status says the same, so a failure is only logged.
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
            logger.warning("the event %s was not recorded: %s", reason, in_words(error))


@contextlib.contextmanager
def _translated(manifest: Object) -> Iterator[None]:
    """Turn a client's errors into ours: who must change something, or that it may work later."""
    try:
        yield
    except client.exceptions.ApiException as error:
        words = _words(error)
        said = f"{_title(manifest)}: {sanitized(words)}"
        if any(mark in words.lower() for mark in _TOO_LARGE):
            raise RefusedError(f"{said}: {_SMALLER}") from error
        if _may_pass(error) and _UNKNOWN_FIELD not in words:
            raise UnavailableError(said) from error
        raise RefusedError(said) from error
    except UNREACHABLE as error:
        raise UnavailableError(f"{_title(manifest)}: {error!r}") from error


def _may_pass(error: client.exceptions.ApiException) -> bool:
    status: int | None = error.status
    return not status or status == _TOO_MANY or status >= _SERVER_ERROR


def looks_after(lease: Object, namespace: str, now: dt.datetime) -> bool:
    """Whether a Lease is held, by an operator that watches a namespace. Pure.

    One of an earlier version, which does not say what it watches, may watch any.
    """
    watched = (lease["metadata"].get("annotations") or {}).get(WATCHES, "")
    if watched and namespace not in watched.split(","):
        return False
    spec = lease.get("spec") or {}
    renewed, lasts_s = spec.get("renewTime"), spec.get("leaseDurationSeconds")
    if not spec.get("holderIdentity") or renewed is None or lasts_s is None:
        return False
    age = now - dt.datetime.fromisoformat(renewed)
    # Clocks differ either way, and operators restart; one that is far ahead was set back since.
    return abs(age.total_seconds()) < _LEASES * float(lasts_s)


def _title(manifest: Object) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def in_words(error: BaseException) -> str:
    """What a client raised, in one line: not the headers of the answer, as the library has it."""
    is_answer = isinstance(error, client.exceptions.ApiException)
    return sanitized(_words(error) if is_answer else repr(error))


def _words(error: client.exceptions.ApiException) -> str:
    """What the apiserver said, for people."""
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return str(error.reason)
