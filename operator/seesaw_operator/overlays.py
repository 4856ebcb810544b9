"""What a user's pod templates must leave as the operator makes it. Pure.

The CRD's rules refuse most of it before it gets here. Some they cannot see: what depends on other
parts of the spec, or lies in fields that have no type. What they do see is refused here as well,
for profiles, which no apiserver has seen, and for resources that were stored under an older CRD.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from seesaw_operator.api import owned
from seesaw_operator.api.kinds import LABEL_KEY
from seesaw_operator.api.owned import Ours
from seesaw_operator.api.spec import Spec
from seesaw_operator.layouts import num_engines
from seesaw_operator.names import ROUTER_PORT, WORKER_PORT, Manifest
from seesaw_operator.objects.merging import as_given


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pods:
    """The pods of one component, and what is in them for this spec.

    ports: names and numbers of our containers' ports.
    env: where our containers' variables are set, by their names.
    resources: where what they ask for is set.
    """

    component: str
    template: Manifest
    ours: Ours
    ports: dict[str, int]
    env: dict[str, str]
    resources: dict[str, str]


def refusals(spec: Spec) -> list[str]:
    """Why a spec's pod templates cannot be taken, each beginning with the field."""
    workers = _Pods(
        component="engine",
        template=as_given(spec.engine.pod_template),
        ours=owned.ENGINE,
        ports={f"engine-{i}": WORKER_PORT + i for i in range(num_engines(spec))},
        env=dict.fromkeys((*owned.ENGINE.env, *(e.name for e in spec.engine.env)), "engine.env"),
        resources=dict.fromkeys(owned.RESOURCES, owned.ENGINE.sizes)
        | {spec.accelerator.resource_name: "accelerator"},
    )
    routers = _Pods(
        component="router",
        template=as_given(spec.router.pod_template),
        ours=owned.ROUTER,
        ports={"http": ROUTER_PORT},
        env={},
        resources=dict.fromkeys(owned.RESOURCES, owned.ROUTER.sizes),
    )
    found = [
        f"spec.{pods.component}.podTemplate{why}"
        for pods in (workers, routers)
        for why in _of(pods)
    ]
    if spec.engine.tolerations and "tolerations" in workers.template.get("spec", {}):
        found.append(
            "spec.engine.podTemplate.spec.tolerations: engine.tolerations are given as well, and "
            "only one of the two can be"
        )
    return found


def _of(pods: _Pods) -> Iterator[str]:
    yield from _directives(pods.template, "")
    for part, keys in pods.template.get("metadata", {}).items():
        yield from (f".metadata.{part}: {key} cannot be set" for key in keys if _is_label(key))
        yield from (f".metadata.{part}: {key!r} is no key" for key in keys if not _is_key(key))
    spec = pods.template.get("spec", {})
    if spec.get("automountServiceAccountToken") is False and pods.ours is owned.ROUTER:
        yield ".spec.automountServiceAccountToken: a router needs its token to find the workers"
    for volume in spec.get("volumes", ()):
        if volume["name"] in pods.ours.volumes:
            yield f".spec.volumes: {volume['name']} is a volume of ours"
    for toleration in spec.get("tolerations", ()):
        yield from (f".spec.tolerations: {why}" for why in _toleration(toleration))
    names = [container["name"] for container in spec.get("containers", ())]
    if names.count(pods.ours.container) > 1:
        yield f".spec.containers: {pods.ours.container} is there twice"
    for field in ("containers", "initContainers"):
        for container in spec.get(field, ()):
            said = f".spec.{field}[{container['name']}]"
            is_ours = field == "containers" and container["name"] == pods.ours.container
            found = _ours(container, pods) if is_ours else _another(container, pods)
            yield from (f"{said}{why}" for why in found)
            if field == "containers" and not is_ours and "image" not in container:
                yield f"{said}: a container beside {pods.ours.container} needs an image"


def _ours(container: Manifest, pods: _Pods) -> Iterator[str]:
    """What is added to our own container."""
    for field in sorted(container.keys() - {"name", *owned.FREE_IN_CONTAINER}):
        yield f".{field}: it is made of {pods.ours.fields}"
    for part in ("limits", "requests"):
        for name in container.get("resources", {}).get(part, {}):
            if name in pods.resources:
                yield f".resources.{part}: {name} is made of {pods.resources[name]}"
    for variable in container.get("env", ()):
        if variable["name"] in pods.env:
            yield f".env: {variable['name']} is set in {pods.env[variable['name']]}"
    for mount in container.get("volumeMounts", ()):
        if covers(mount["mountPath"], pods.ours):
            yield f".volumeMounts: a volume of ours is at {mount['mountPath']} or below"


def _another(container: Manifest, pods: _Pods) -> Iterator[str]:
    """A container beside ours."""
    if container["name"] == pods.ours.container or pods.ours.has(container["name"]):
        yield ": it is the name of a container of ours"
    for port in container.get("ports", ()):
        if port["containerPort"] in pods.ports.values():
            yield f".ports: {port['containerPort']} is a port of ours"
        elif port.get("name") in pods.ports:
            yield f".ports: {port['name']} is the name of a port of ours"


def covers(path: str, ours: Ours) -> bool:
    """Whether what is mounted there hides a volume of ours."""
    mounted = PurePosixPath("/" + path.lstrip("/"))
    return any(PurePosixPath(mount).is_relative_to(mounted) for mount in ours.mounts)


def _is_label(key: str) -> bool:
    """Whether a label or annotation is the operator's or that of Kubernetes' controllers."""
    domain, _, _ = key.partition("/")
    return key in owned.LABELS or f".{domain}".endswith(f".{owned.GROUP}")


def _is_key(key: str) -> bool:
    return len(key) <= 317 and re.fullmatch(LABEL_KEY, key) is not None


def _toleration(given: Manifest) -> Iterator[str]:
    is_equal = given.get("operator", "Equal") == "Equal"
    if "key" not in given and is_equal:
        yield "without key, operator must be Exists"
    if "value" in given and not is_equal:
        yield "operator Exists takes no value"
    if "tolerationSeconds" in given and given.get("effect") != "NoExecute":
        yield "tolerationSeconds goes with effect NoExecute only"


def _directives(value: Any, path: str) -> Iterator[str]:
    """Keys such as $patch, by which kubectl patch would do more than merge."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key.startswith("$"):
                yield f"{path}.{key}: directives are not read"
            yield from _directives(below, f"{path}.{key}")
    if isinstance(value, list):
        for index, below in enumerate(value):
            yield from _directives(below, f"{path}[{index}]")
