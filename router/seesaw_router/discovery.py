"""Which workers there are: the EndpointSlices of their headless Service, watched."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp

from seesaw_core.errors import InputError
from seesaw_router.backends import Target

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_SERVICE_LABEL = "kubernetes.io/service-name"

Slice = dict[str, Any]


async def configure() -> None:
    """Learn how to reach the apiserver: as a pod does, or from a kubeconfig.

    Raises: InputError if there is neither.
    """
    from kubernetes.aio import config

    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            await config.load_kube_config()
        except (config.ConfigException, OSError) as error:
            raise InputError(
                "--service needs Kubernetes: this is no pod, and there is no kubeconfig "
                f"({error}); set KUBECONFIG, or give --worker URL instead"
            ) from error


async def follow_service(service: str, become: Callable[[Iterable[Target]], None]) -> None:
    """Tell of the workers behind ``NAMESPACE/NAME`` for ever, whenever they change.

    A failure of the API changes nothing: the workers known last are kept, and are asked
    themselves whether they serve. Requires: :func:`configure`.
    """
    from kubernetes.aio import client, watch

    namespace, _, name = service.partition("/")
    where = {"namespace": namespace, "label_selector": f"{_SERVICE_LABEL}={name}"}
    async with client.ApiClient() as api:
        discovery = client.DiscoveryV1Api(api)
        while True:
            try:
                found = await discovery.list_namespaced_endpoint_slice(**where)
                slices = {s.metadata.name: api.sanitize_for_serialization(s) for s in found.items}
                become(targets(slices.values()))
                events = watch.Watch().stream(
                    discovery.list_namespaced_endpoint_slice,
                    resource_version=found.metadata.resource_version,
                    **where,
                )
                async for event in events:
                    if not isinstance(event, dict):  # the library hands on what is no JSON
                        raise aiohttp.ClientPayloadError(f"the watch said {event!r}")
                    body = event["raw_object"]
                    if event["type"] == "DELETED":
                        slices.pop(body["metadata"]["name"], None)
                    else:
                        slices[body["metadata"]["name"]] = body
                    become(targets(slices.values()))
            except (
                client.exceptions.ApiException,
                aiohttp.ClientError,
                OSError,
                TimeoutError,
            ) as error:
                logger.warning("watching %s: %s", service, error)
                await asyncio.sleep(_RETRY_S)


def targets(slices: Iterable[Slice]) -> list[Target]:
    """The workers in some EndpointSlices: each port of each pod is one.

    A pod that is still loading is among them, since its own events say when it serves.
    """
    found: dict[str, Target] = {}
    for each in slices:
        ports = [p["port"] for p in each.get("ports") or () if p.get("port")]
        for endpoint in each.get("endpoints") or ():
            pod = (endpoint.get("targetRef") or {}).get("name") or endpoint["addresses"][0]
            address = endpoint["addresses"][0]
            host = f"[{address}]" if ":" in address else address
            is_going = bool((endpoint.get("conditions") or {}).get("terminating"))
            for port in ports:
                name = f"{pod}:{port}"
                target = Target(name=name, url=f"http://{host}:{port}", is_going=is_going)
                if name not in found or not is_going:  # a pod's old self may still be listed
                    found[name] = target
    return list(found.values())
