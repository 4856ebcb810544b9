"""The fields of pods that the operator sets, and that users therefore cannot set.

Fields and their kinds are those of core/v1; a test compares them with what an apiserver tells.
"""

import re
from dataclasses import dataclass

from seesaw_operator.api.field_types import IMAGE_FORM
from seesaw_operator.api.rules import Foreign, Kind

GROUP = "seesaw.dev"
LABELS = (
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/name",
    "apps.kubernetes.io/pod-index",
    "controller-revision-hash",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """What the operator itself puts into the pods of one component.

    container: the name by which a template speaks of our container, or of all of them.
    names: a pattern of the names that our containers have.
    volumes, mounts, env: names of our volumes, paths of our mounts, names of our variables.
    fields, sizes: where to set what the operator sets in a container, and its cpu and memory.
    """

    container: str
    names: str
    volumes: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    fields: str
    sizes: str

    def has(self, container: str) -> bool:
        """Whether a container of that name is one of ours."""
        return re.fullmatch(self.names, container) is not None


ENGINE = Ours(
    container="engine",
    names="engine-[0-9]+",
    volumes=("shm", "scratch", "model"),
    mounts=("/dev/shm", "/scratch", "/tmp", "/models"),
    env=("HOME", "USER"),
    fields="engine.image, engine.extraArgs and others",
    sizes="engine.resources",
)
ROUTER = Ours(
    container="router",
    names="router",
    fields="router.image, router.extraArgs and others",
    sizes="router.resources",
)

OF_CONTAINER = {
    "args": Foreign(kind="strings"),
    "command": Foreign(kind="strings"),
    "image": Foreign(kind="string", form=IMAGE_FORM, max_length=1024),
    "imagePullPolicy": Foreign(kind="string"),
    "lifecycle": Foreign(kind="object"),
    "livenessProbe": Foreign(kind="object"),
    "readinessProbe": Foreign(kind="object"),
    "resizePolicy": Foreign(kind="objects"),
    "restartPolicy": Foreign(kind="string"),
    "restartPolicyRules": Foreign(kind="objects"),
    "startupProbe": Foreign(kind="object"),
    "stdin": Foreign(kind="boolean"),
    "stdinOnce": Foreign(kind="boolean"),
    "terminationMessagePath": Foreign(kind="string"),
    "terminationMessagePolicy": Foreign(kind="string"),
    "tty": Foreign(kind="boolean"),
    "workingDir": Foreign(kind="string"),
}
FREE_IN_CONTAINER = (
    "env",
    "envFrom",
    "resources",
    "securityContext",
    "volumeDevices",
    "volumeMounts",
)
RESOURCES = ("cpu", "memory")
_APART = "the pods share nothing with their node"
_NAMED = "the operator names the pods"
_WHY: dict[Kind, dict[str, str]] = {
    "boolean": {
        "enableServiceLinks": "the pods take no variables from Services",
        "hostIPC": _APART,
        "hostNetwork": _APART,
        "hostPID": _APART,
        "setHostnameAsFQDN": _NAMED,
        "shareProcessNamespace": "a container ends with its own first process",
    },
    "integer": {
        "activeDeadlineSeconds": "the pods serve until they are replaced",
        "priority": "use priorityClassName",
        "terminationGracePeriodSeconds": "use timing.drainSeconds",
    },
    "object": {
        "os": "the images are for Linux",
        "overhead": "use runtimeClassName",
        "resources": "use those of each container",
        "workloadRef": "the pods are scheduled one by one",
    },
    "objects": {"ephemeralContainers": "use kubectl debug on a pod"},
    "string": {
        "hostname": _NAMED,
        "hostnameOverride": _NAMED,
        "nodeName": "use nodeSelector or affinity",
        "restartPolicy": "the containers are always started again",
        "serviceAccount": "use serviceAccountName",
        "subdomain": _NAMED,
    },
}
# As `kubectl create --dry-run` writes it: null.
OF_METADATA = {
    "creationTimestamp": Foreign(
        kind="time",
        refusal="podTemplate.metadata.creationTimestamp cannot be set: Kubernetes does that",
    )
}
OF_POD = {
    name: Foreign(kind=kind, refusal=f"podTemplate.spec.{name} cannot be set: {why}")
    for kind, fields in _WHY.items()
    for name, why in fields.items()
}
