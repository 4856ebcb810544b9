"""What kopf tells of our resource, passed on to the queue; nothing else happens here."""

import logging
from typing import Any

import kopf

from seesaw_operator.api.crd import GROUP, PLURAL, VERSION
from seesaw_operator.cluster.store import Key, Store
from seesaw_operator.loop.workqueue import WorkQueue


def register(registry: kopf.OperatorRegistry, store: Store, queue: WorkQueue) -> None:
    """Follow all SeesawDeployments: creation, change, deletion, and those there at the start.

    Level-triggered, so the kind of event does not matter; no finalizer, since Kubernetes
    deletes what a resource owns.
    """

    logging.getLogger("kopf.objects").addFilter(_name_object)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def seen(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        metadata = body["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        if type == "DELETED":
            store.drop_resource(key, metadata["uid"])
        else:
            store.put_resource(dict(body))
        queue.add(key)


def _name_object(record: logging.LogRecord) -> bool:
    """Let our log say which object kopf speaks of."""
    reference = getattr(record, "k8s_ref", None)
    if reference:
        record.about = f"{reference['namespace']}/{reference['name']}"
    return True
