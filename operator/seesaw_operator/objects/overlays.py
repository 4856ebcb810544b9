"""What users' pod templates must not change in the operator's pods. Pure.

The CRD's rules refuse most violations before they get here. They cannot check what depends on other
parts of the spec, or lies in fields without a type. What they do check is checked here as well, for
profiles, which no apiserver validates, and for resources that were stored under an older CRD.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from seesaw_operator.api import owned
from seesaw_operator.api.field_types import LABEL_KEY, LONGEST_KEY
from seesaw_operator.api.owned import Ours
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import ROUTER_PORT, WORKER_PORT, Manifest
from seesaw_operator.objects.layouts import num_engines
from seesaw_operator.objects.merging import as_given

_MOST_ANNOTATIONS_BYTES = 255 << 10  # Kubernetes accepts 256 KiB, including ours
_LONGEST_KEY = 512  # YAML ends at 1,024, of which a character may take several


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pods:
    """The pods of one component, as they are for this spec.

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
    """Return why a spec's pod templates are refused, each reason beginning with the field."""
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
    of_service = _too_large(spec.router.service.annotations or {}, "annotations")
    found = [f"spec.router.service.{why}" for why in of_service] + [
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
    yield from _unwritable(pods.template, "")
    metadata = pods.template.get("metadata", {})
    yield from _too_large(metadata.get("annotations", {}), ".metadata.annotations")
    for part, keys in metadata.items():
        yield from (f".metadata.{part}: {key} cannot be set" for key in keys if _is_label(key))
        yield from (f".metadata.{part}: {key!r} is no key" for key in keys if not _is_key(key))
    spec = pods.template.get("spec", {})
    if spec.get("automountServiceAccountToken") is False and pods.ours is owned.ROUTER:
        yield ".spec.automountServiceAccountToken: a router needs its token to find the workers"
    for volume in spec.get("volumes", ()):
        if volume["name"] in pods.ours.volumes:
            yield f".spec.volumes: {volume['name']} is a volume of ours"
    for key in spec.get("nodeSelector", {}):
        if not _is_key(key):
            yield f".spec.nodeSelector: {key!r} is no key"
    for toleration in spec.get("tolerations", ()):
        yield from (f".spec.tolerations: {why}" for why in _toleration(toleration))
    both = (*spec.get("containers", ()), *spec.get("initContainers", ()))
    for name in _repeated(each["name"] for each in both):
        yield f".spec.containers: two are named {name}"
    for field in ("containers", "initContainers"):
        for container in spec.get(field, ()):
            said = f".spec.{field}[{container['name']}]"
            is_ours = field == "containers" and container["name"] == pods.ours.container
            found = _ours(container, pods) if is_ours else _another(container, pods)
            yield from (f"{said}{why}" for why in (*found, *_anyones(container)))
            if not is_ours and "image" not in container:
                yield f"{said}: a container beside {pods.ours.container} needs an image"


def _ours(container: Manifest, pods: _Pods) -> Iterator[str]:
    """Check the additions to our own container."""
    for field in sorted(container.keys() - {"name", *owned.FREE_IN_CONTAINER}):
        if field == "ports" and not container["ports"]:
            continue
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
    """Check a container beside ours."""
    if container["name"] == pods.ours.container or pods.ours.has(container["name"]):
        yield ": it is the name of a container of ours"
    for port in container.get("ports", ()):
        if port["containerPort"] in pods.ports.values():
            yield f".ports: {port['containerPort']} is a port of ours"
        elif port.get("name") in pods.ports:
            yield f".ports: {port['name']} is the name of a port of ours"


def _anyones(container: Manifest) -> Iterator[str]:
    """Check what no container may have."""
    ports = container.get("ports", ())
    for name in _repeated(port["name"] for port in ports if port.get("name")):
        yield f".ports: two are named {name}"
    for port in _repeated(f"{p['containerPort']}/{p.get('protocol', 'TCP')}" for p in ports):
        yield f".ports: {port} is there twice"
    for mount in container.get("volumeMounts", ()):
        if PurePosixPath("/" + mount["mountPath"].lstrip("/")).is_relative_to("/proc"):
            yield f".volumeMounts: {mount['mountPath']} is the kernel's"


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _too_large(annotations: Mapping[str, str], path: str) -> Iterator[str]:
    size_bytes = sum(len(key.encode()) + len(text.encode()) for key, text in annotations.items())
    if size_bytes > _MOST_ANNOTATIONS_BYTES:
        yield f"{path}: {size_bytes} bytes together, at most {_MOST_ANNOTATIONS_BYTES} are taken"


def covers(path: str, ours: Ours) -> bool:
    """Whether a mount at this path hides a volume of ours."""
    mounted = PurePosixPath("/" + path.lstrip("/"))
    return any(PurePosixPath(mount).is_relative_to(mounted) for mount in ours.mounts)


def _is_label(key: str) -> bool:
    """Whether a label or annotation belongs to the operator or to Kubernetes' controllers."""
    domain, _, _ = key.partition("/")
    return key in owned.LABELS or f".{domain}".endswith(f".{owned.GROUP}")


def _is_key(key: str) -> bool:
    return len(key) <= LONGEST_KEY and re.fullmatch(LABEL_KEY, key) is not None


def _toleration(given: Manifest) -> Iterator[str]:
    is_equal = given.get("operator", "Equal") == "Equal"
    if "key" not in given and is_equal:
        yield "without key, operator must be Exists"
    if "value" in given and not is_equal:
        yield "operator Exists takes no value"
    if "tolerationSeconds" in given and given.get("effect") != "NoExecute":
        yield "tolerationSeconds goes with effect NoExecute only"


def _unwritable(value: Any, path: str) -> Iterator[str]:
    """Find directives of kubectl patch, such as $patch, and texts that no process accepts."""
    if isinstance(value, dict):
        for key, below in value.items():
            if key.startswith("$"):
                yield f"{path}.{key}: directives are not read"
            if len(key) > _LONGEST_KEY or "\x00" in key:
                yield f"{path}: a key has at most {_LONGEST_KEY} characters, and no NUL"
                continue
            yield from _unwritable(below, f"{path}.{key}")
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _unwritable(below, f"{path}[{index}]")
    elif isinstance(value, str) and "\x00" in value:
        yield f"{path}: it must not contain NUL"
