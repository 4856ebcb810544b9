"""The pods of workers: one engine container for each data-parallel part of a replica."""

from seesaw_core.units import GIB
from seesaw_operator.api.owned import ENGINE
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import WORKER, WORKER_PORT, Manifest
from seesaw_operator.objects import pods
from seesaw_operator.objects.context import Context
from seesaw_operator.objects.layouts import buffer_bytes, num_engines
from seesaw_operator.objects.merging import with_template
from seesaw_operator.objects.quantities import cores, num_bytes, num_millicores, quantity
from seesaw_operator.objects.worker_arguments import CPU, MODEL_MOUNT, PVC, arguments

SHM_DIR = "/dev/shm"
SCRATCH = "/scratch"  # the home folder: caches and downloads
_QUEUES_BYTES = 2 * GIB  # message queues of vLLM and torch, an engine pair
# Requested for the processes of an engine pair. A reserve: CUDA's part of them is not measured yet.
_PROCESSES_BYTES = 8 * GIB
_STORAGE = "ephemeral-storage"
_CACHES = "2Gi"  # logs and compiled kernels; downloads are not included
_SERVER_CORES = 2  # beside one a rank; source: vLLM, CPU resources for GPU deployments
_MARGIN_S = 30


def port_name(index: int) -> str:
    """Return the name of an engine's container and of its port."""
    return f"engine-{index}"


def pod_template(context: Context) -> Manifest:
    """Return the pod template, with the user's merged into it."""
    template = {
        "metadata": {"labels": context.owner.labels(WORKER)},
        "spec": _pod(context),
    }
    return _with_storage(with_template(template, context.spec.engine.pod_template, ENGINE))


def _with_storage(template: Manifest) -> Manifest:
    """Request disk space where the user does not. A limit alone counts as a request."""
    for container in template["spec"]["containers"]:
        resources = container.get("resources", {})
        if ENGINE.has(container["name"]) and _STORAGE not in resources.get("limits", {}):
            resources["requests"].setdefault(_STORAGE, _CACHES)
    return template


def _pod(context: Context) -> Manifest:
    spec, owner, timing = context.spec, context.owner, context.timing
    pod: Manifest = {
        "serviceAccountName": owner.worker,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(),
        "terminationGracePeriodSeconds": timing.pre_stop_s + timing.drain_s + _MARGIN_S,
        "topologySpreadConstraints": pods.spread(owner.selector(WORKER)),
        "containers": [_container(context, index) for index in range(num_engines(spec))],
        "volumes": _volumes(spec),
    }
    if spec.engine.node_selector:
        pod["nodeSelector"] = spec.engine.node_selector
    if spec.engine.tolerations:
        pod["tolerations"] = [
            each.model_dump(by_alias=True, exclude_none=True) for each in spec.engine.tolerations
        ]
    if context.images.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in context.images.pull_secrets]
    return pod


def _container(context: Context, index: int) -> Manifest:
    spec, images, start_s = context.spec, context.images, context.timing.start_s
    default = images.worker_cpu if spec.accelerator.resource_name == CPU else images.worker
    port = port_name(index)
    mounts: list[Manifest] = [
        {"name": "shm", "mountPath": SHM_DIR},
        {"name": "scratch", "mountPath": SCRATCH},
        {"name": "scratch", "mountPath": "/tmp", "subPath": f"tmp-{index}"},
    ]
    if spec.model.uri.startswith(PVC):
        mounts.append({"name": "model", "mountPath": MODEL_MOUNT, "readOnly": True})
    return {
        "name": port,
        "image": spec.engine.image or default,
        "imagePullPolicy": images.pull_policy,
        "args": arguments(context, index),
        "env": _environment(spec),
        "ports": [{"name": port, "containerPort": WORKER_PORT + index}],
        "resources": _resources(spec),
        "securityContext": pods.container_security(),
        "volumeMounts": mounts,
        # The server answers /seesaw/state while it loads, however long that takes.
        "startupProbe": pods.http_probe(
            "/seesaw/state", port, every_s=5, failures=max(1, start_s // 5), timeout_s=5
        ),
        "livenessProbe": pods.http_probe(
            "/seesaw/state", port, every_s=20, failures=6, timeout_s=15
        ),
        "readinessProbe": pods.http_probe("/health", port, every_s=2, failures=2, timeout_s=5),
        "lifecycle": pods.pre_stop(context.timing.pre_stop_s),
        # The last lines of the log say why it ended. They go into the resource's status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _environment(spec: Spec) -> list[Manifest]:
    """Return our variables, overridden by the user's."""
    # torch looks up the user's name, which the image may not know.
    defaults = {"HOME": SCRATCH, "USER": "seesaw"}
    ours = {name: {"name": name, "value": value} for name, value in defaults.items()}
    theirs = {e.name: e.model_dump(by_alias=True, exclude_none=True) for e in spec.engine.env}
    return list((ours | theirs).values())


def _resources(spec: Spec) -> Manifest:
    """Return the resources of one engine's container.

    The KV buffer counts as memory, and so do the weights on the CPU: an arena, or the one copy
    of elastic instances.
    """
    wanted, accelerator, parts = spec.engine.resources, spec.accelerator, num_engines(spec)
    buffer, devices = buffer_bytes(spec) // parts, accelerator.count // parts
    requests: Manifest = {"memory": quantity(buffer + _PROCESSES_BYTES)}
    limits: Manifest = {}
    if wanted.memory is not None:
        requests["memory"] = limits["memory"] = quantity(num_bytes(wanted.memory) // parts)
    is_cpu = accelerator.resource_name == CPU
    if wanted.cpu is not None:
        requests["cpu"] = cores(-(-num_millicores(wanted.cpu) // parts))
    else:
        requests["cpu"] = str(devices if is_cpu else devices + _SERVER_CORES)
    if not is_cpu:
        limits[accelerator.resource_name] = str(devices)
    return {"requests": requests} | ({"limits": limits} if limits else {})


def _volumes(spec: Spec) -> list[Manifest]:
    shm: Manifest = {"medium": "Memory"}
    if spec.engine.resources.memory is not None:
        shm["sizeLimit"] = quantity(num_bytes(spec.engine.resources.memory))
    elif spec.accelerator.resource_name != CPU:  # on the CPU weights are here too
        shm["sizeLimit"] = quantity(buffer_bytes(spec) + num_engines(spec) * _QUEUES_BYTES)
    volumes: list[Manifest] = [
        {"name": "shm", "emptyDir": shm},
        {"name": "scratch", "emptyDir": {}},
    ]
    if spec.model.uri.startswith(PVC):
        claim, _, _ = spec.model.uri.removeprefix(PVC).partition("/")
        volumes.append(
            {"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        )
    return volumes
