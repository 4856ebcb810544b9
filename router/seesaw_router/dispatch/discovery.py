"""Discovers workers by watching the EndpointSlices of their headless Service."""

import asyncio
import ipaddress
import logging
import os
import re
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp

from seesaw_core.errors import InputError, MessageError
from seesaw_router.dispatch.backend import Target

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
_MAX_WORKERS = 2000
_MAX_PROBLEMS = 20
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_SERVICE_LABEL = "kubernetes.io/service-name"

Slice = dict[str, Any]


async def configure() -> None:
    """Load the configuration of the Kubernetes client: a pod's, or a kubeconfig.

    Raises: InputError if there is neither.
    """
    from kubernetes.aio import config

    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            await config.load_kube_config(config_file=os.environ.get("KUBECONFIG"))
        except (config.ConfigException, OSError) as error:
            raise InputError(
                "--service needs Kubernetes: this is not a pod, and there is no kubeconfig "
                f"({error}); set KUBECONFIG, or give --worker URL instead"
            ) from error


async def follow_service(service: str, set_targets: Callable[[Iterable[Target]], None]) -> None:
    """Report the workers behind ``NAMESPACE/NAME`` for ever, whenever they change.

    If the API fails, the last known workers stay; their followers report whether they serve.
    Requires: :func:`configure`.
    """
    from kubernetes.aio import client

    namespace, _, name = service.partition("/")
    where = {"namespace": namespace, "label_selector": f"{_SERVICE_LABEL}={name}"}
    reporter = _Reporter(set_targets)
    async with client.ApiClient() as api:
        while True:
            try:
                await _watch(api, where, reporter)
            except (
                client.exceptions.ApiException,
                aiohttp.ClientError,
                OSError,
                TimeoutError,
            ) as error:
                logger.warning("watching %s: %s", service, error)
                await asyncio.sleep(_RETRY_S)
            except Exception:  # an unforeseen answer: the last known workers stay
                logger.exception("watching %s", service)
                await asyncio.sleep(_RETRY_S)


class _Reporter:
    """Reports the workers of all slices, and logs once each part that cannot be read."""

    def __init__(self, set_targets: Callable[[Iterable[Target]], None]) -> None:
        self._set_targets = set_targets
        self._problems: tuple[str, ...] = ()

    def report(self, slices: Iterable[Slice]) -> None:
        workers, problems = targets(slices)
        if problems != self._problems:
            for problem in problems:
                logger.warning("part of an EndpointSlice is ignored: %s", problem)
            self._problems = problems
        self._set_targets(workers)


async def _watch(api: Any, where: dict[str, str], reporter: _Reporter) -> None:
    """List the slices, then follow their changes until the watch ends."""
    from kubernetes.aio import client, watch

    discovery = client.DiscoveryV1Api(api)
    listed = await discovery.list_namespaced_endpoint_slice(**where)
    slices = {s.metadata.name: api.sanitize_for_serialization(s) for s in listed.items}
    reporter.report(slices.values())
    events = watch.Watch().stream(
        discovery.list_namespaced_endpoint_slice,
        resource_version=listed.metadata.resource_version,
        **where,
    )
    async for event in events:
        if not isinstance(event, dict):  # the library passes on text that is not JSON
            raise aiohttp.ClientPayloadError(f"the watch sent {event!r}")
        body = event["raw_object"]
        if event["type"] == "DELETED":
            slices.pop(body["metadata"]["name"], None)
        elif event["type"] in ("ADDED", "MODIFIED"):
            slices[body["metadata"]["name"]] = body
        reporter.report(slices.values())


def targets(slices: Iterable[Slice]) -> tuple[list[Target], tuple[str, ...]]:
    """Returns the workers in EndpointSlices (each port of each pod), and all problems.

    Pods that are still loading are included, since their own events report when they serve. If
    several slices name a worker, one that does not drain takes precedence.
    """
    by_name: dict[str, Target] = {}
    problems: list[str] = []
    for each in slices:
        try:
            ports = [port for port in _each(each, "ports") if port.get("port") is not None]
            endpoints = list(_each(each, "endpoints"))
        except MessageError as error:
            problems.append(f"{_name_of(each)}: {error}")
            continue
        for index, endpoint in enumerate(endpoints):
            for port in ports:
                try:
                    target = _target(endpoint, port)
                except MessageError as error:
                    problems.append(f"{_name_of(each)}: endpoints[{index}]: {error}")
                    continue
                known = by_name.get(target.name)
                if known is None or (known.is_draining and not target.is_draining):
                    by_name[target.name] = target
    if len(by_name) > _MAX_WORKERS:
        problems.append(f"{len(by_name)} workers: only the first {_MAX_WORKERS} are used")
    return list(by_name.values())[:_MAX_WORKERS], tuple(dict.fromkeys(problems))[:_MAX_PROBLEMS]


def _target(endpoint: dict[str, Any], port: dict[str, Any]) -> Target:
    """Raises: MessageError."""
    addresses = endpoint.get("addresses")
    if not isinstance(addresses, list) or not addresses or not isinstance(addresses[0], str):
        raise MessageError("addresses", "has no address")
    host = _host(addresses[0])
    number = port["port"]
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 65536:
        raise MessageError("ports", f"must be from 1 to 65535, is {ascii(number)[:40]}")
    reference, conditions = endpoint.get("targetRef"), endpoint.get("conditions")
    pod = reference.get("name") if isinstance(reference, dict) else None
    if not isinstance(pod, str) or not pod:
        pod = addresses[0]
    is_draining = isinstance(conditions, dict) and conditions.get("terminating") is True
    return Target(name=f"{pod}:{number}", url=f"http://{host}:{number}", is_draining=is_draining)


def _host(address: str) -> str:
    """Returns an address in the form that URLs use. Raises: MessageError."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        if _HOST_NAME.fullmatch(address):
            return address
        raise MessageError("addresses", f"must be an address, is {ascii(address)[:80]}") from None
    return f"[{address}]" if number.version == 6 else address


def _each(slice_: object, field: str) -> Iterable[dict[str, Any]]:
    """Raises: MessageError."""
    items = slice_.get(field) if isinstance(slice_, dict) else None
    if items is None:
        return ()
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise MessageError(field, "must be a list of objects")
    return items


def _name_of(slice_: object) -> str:
    metadata = slice_.get("metadata") if isinstance(slice_, dict) else None
    return ascii(metadata.get("name"))[:80] if isinstance(metadata, dict) else "a slice"
