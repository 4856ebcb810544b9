"""The workers: a StatefulSet with a pod a replica, its headless Service and what guards it.

A rollout replaces one pod at a time, the last first, with no pod more than there are devices
for; Kubernetes goes on to the next only when the last one serves. A replica with data
parallelism has as many engine containers, each on its own part of the devices.
"""

from seesaw_core.process_memory import processes_bytes
from seesaw_core.units import GIB
from seesaw_operator.api.owned import ENGINE
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import WORKER_PORT, Manifest, Owner
from seesaw_operator.objects import pods
from seesaw_operator.objects.layouts import layouts_of, num_engines
from seesaw_operator.objects.merging import with_template
from seesaw_operator.objects.quantities import cores, num_bytes, num_millicores, quantity, seconds
from seesaw_operator.settings import Images, Timing

COMPONENT = "worker"
CPU = "cpu"
SHM_DIR = "/dev/shm"
SCRATCH = "/scratch"  # the home folder: caches and downloads
MODEL_MOUNT = "/models"
_PVC = "pvc://"
_HUB = "hf://"
_QUEUES_BYTES = 2 * GIB  # message queues of vLLM and torch, an engine pair
_STORAGE = "ephemeral-storage"
_CACHES = "2Gi"  # logs and compiled kernels; what is downloaded comes on top
_SERVER_CORES = 2  # beside one a rank; source: vLLM, CPU resources for GPU deployments
_MARGIN_S = 30


def worker_objects(spec: Spec, owner: Owner, images: Images, timing: Timing) -> list[Manifest]:
    """Everything that the workers need, in the order in which to create it."""
    return [
        _service_account(owner),
        _headless_service(spec, owner),
        _disruption_budget(owner),
        _stateful_set(spec, owner, images, timing),
    ]


def arguments(spec: Spec, owner: Owner, index: int, timing: Timing) -> list[str]:
    """The command line of one engine pair. What the user adds comes last, and so wins.

    In that, Kubernetes puts variables' values in place of ``$(NAME)``; nowhere else.
    """
    size_gib = num_bytes(spec.kv_buffer.size) / num_engines(spec) / GIB
    given: dict[str, object] = {
        "--served-model-name": spec.model.name or owner.name,
        "--host": "0.0.0.0",
        "--port": WORKER_PORT + index,
        **_parallelism(spec),
        "--reshard": spec.reshard.lower(),
        "--kv-buffer-gib": f"{size_gib:.6g}",
        "--flush-timeout-s": f"{seconds(spec.waves.max_wait):g}",
        "--drain-timeout-s": timing.drain_s,
    }
    if spec.model.max_model_len is not None:
        given["--max-model-len"] = spec.model.max_model_len
    flags = [f"{flag}={value}" for flag, value in given.items()]
    if spec.accelerator.resource_name == CPU:
        flags.append("--enforce-eager")  # compiling takes a C++ compiler, and minutes
    made = [each.replace("$", "$$") for each in (model_path(spec), *flags)]
    return ["worker", *made, *spec.engine.extra_args]


def _parallelism(spec: Spec) -> dict[str, object]:
    """The layouts, or what the worker needs to plan them: it sees the model and the devices."""
    layouts = layouts_of(spec)
    if layouts is not None:
        prefill, decode = layouts
        return {
            "--prefill-tensor-parallel-size": prefill.tensor,
            "--prefill-pipeline-parallel-size": prefill.pipeline,
            "--decode-tensor-parallel-size": decode.tensor,
            "--decode-pipeline-parallel-size": decode.pipeline,
        }
    planning = spec.planning
    given = {
        "--parallelism": "auto",
        "--devices": spec.accelerator.count,
        "--accelerator": spec.accelerator.product,
        "--plan-prompt-tokens": planning.prompt_tokens,
        "--plan-output-tokens": planning.output_tokens,
        "--plan-concurrency": planning.concurrency,
    }
    return {flag: value for flag, value in given.items() if value is not None}


def model_path(spec: Spec) -> str:
    """Where the worker finds the model."""
    uri = spec.model.uri
    if not uri.startswith(_PVC):
        return uri.removeprefix(_HUB)
    _, _, path = uri.removeprefix(_PVC).partition("/")
    return f"{MODEL_MOUNT}/{path}".rstrip("/")


def _service_account(owner: Owner) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": owner.metadata(owner.worker, COMPONENT),
        "automountServiceAccountToken": False,
    }


def _headless_service(spec: Spec, owner: Owner) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(owner.worker, COMPONENT),
        "spec": {
            "clusterIP": "None",
            "selector": owner.selector(COMPONENT),
            "ports": [
                {"name": _port_name(i), "port": WORKER_PORT + i, "targetPort": _port_name(i)}
                for i in range(num_engines(spec))
            ],
        },
    }


def _disruption_budget(owner: Owner) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(owner.worker, COMPONENT),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": owner.selector(COMPONENT)},
            # A pod that does not serve is no loss, and must not keep a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _stateful_set(spec: Spec, owner: Owner, images: Images, timing: Timing) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": owner.metadata(owner.worker, COMPONENT),
        "spec": {
            "replicas": spec.replicas,
            "serviceName": owner.worker,
            "podManagementPolicy": "Parallel",
            "updateStrategy": {
                "type": "RollingUpdate",
                # Pods below the partition stay as they are. One that goes is made again as
                # before the rollout that is under way.
                "rollingUpdate": {"partition": spec.replicas if spec.paused else 0},
            },
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": owner.selector(COMPONENT)},
            "template": _with_storage(
                with_template(
                    {
                        "metadata": {"labels": owner.labels(COMPONENT)},
                        "spec": _pod(spec, owner, images, timing),
                    },
                    spec.engine.pod_template,
                    ENGINE,
                )
            ),
        },
    }


def _with_storage(template: Manifest) -> Manifest:
    """Ask for disk where the user does not: a limit alone is a request as well."""
    for container in template["spec"]["containers"]:
        resources = container.get("resources", {})
        if ENGINE.has(container["name"]) and _STORAGE not in resources.get("limits", {}):
            resources["requests"].setdefault(_STORAGE, _CACHES)
    return template


def _pod(spec: Spec, owner: Owner, images: Images, timing: Timing) -> Manifest:
    pod: Manifest = {
        "serviceAccountName": owner.worker,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(),
        "terminationGracePeriodSeconds": timing.pre_stop_s + timing.drain_s + _MARGIN_S,
        "topologySpreadConstraints": pods.spread(owner.selector(COMPONENT)),
        "containers": [
            _container(spec, owner, index, images, timing) for index in range(num_engines(spec))
        ],
        "volumes": _volumes(spec),
    }
    if spec.engine.node_selector:
        pod["nodeSelector"] = spec.engine.node_selector
    if spec.engine.tolerations:
        pod["tolerations"] = [
            t.model_dump(by_alias=True, exclude_none=True) for t in spec.engine.tolerations
        ]
    if images.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in images.pull_secrets]
    return pod


def _container(spec: Spec, owner: Owner, index: int, images: Images, timing: Timing) -> Manifest:
    default = images.worker_cpu if spec.accelerator.resource_name == CPU else images.worker
    port = _port_name(index)
    mounts: list[Manifest] = [
        {"name": "shm", "mountPath": SHM_DIR},
        {"name": "scratch", "mountPath": SCRATCH},
        {"name": "scratch", "mountPath": "/tmp", "subPath": f"tmp-{index}"},
    ]
    if spec.model.uri.startswith(_PVC):
        mounts.append({"name": "model", "mountPath": MODEL_MOUNT, "readOnly": True})
    return {
        "name": port,
        "image": spec.engine.image or default,
        "imagePullPolicy": images.pull_policy,
        "args": arguments(spec, owner, index, timing),
        "env": _environment(spec),
        "ports": [{"name": port, "containerPort": WORKER_PORT + index}],
        "resources": _resources(spec),
        "securityContext": pods.container_security(),
        "volumeMounts": mounts,
        # The server answers /seesaw/state while it loads, however long that takes.
        "startupProbe": pods.http_probe(
            "/seesaw/state", port, every_s=5, failures=max(1, timing.start_s // 5), timeout_s=5
        ),
        "livenessProbe": pods.http_probe(
            "/seesaw/state", port, every_s=20, failures=6, timeout_s=15
        ),
        "readinessProbe": pods.http_probe("/health", port, every_s=2, failures=2, timeout_s=5),
        "lifecycle": pods.pre_stop(timing.pre_stop_s),
        # The last lines of the log say why it ended, and go into the resource's status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _environment(spec: Spec) -> list[Manifest]:
    """Ours, where the user does not say otherwise."""
    ours = {"HOME": SCRATCH, "USER": "seesaw"}  # torch asks, and the image may not know the user
    made = {name: {"name": name, "value": value} for name, value in ours.items()}
    given = {e.name: e.model_dump(by_alias=True, exclude_none=True) for e in spec.engine.env}
    return list((made | given).values())


def _port_name(index: int) -> str:
    return f"engine-{index}"


def _resources(spec: Spec) -> Manifest:
    """Of one engine's container. The KV buffer is memory, and so is a CPU's weights arena."""
    wanted, accelerator, parts = spec.engine.resources, spec.accelerator, num_engines(spec)
    buffer, devices = num_bytes(spec.kv_buffer.size) // parts, accelerator.count // parts
    requests: Manifest = {"memory": quantity(buffer + processes_bytes(devices))}
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
    elif spec.accelerator.resource_name != CPU:  # whose arena is here too, as large as the model
        shm["sizeLimit"] = quantity(
            num_bytes(spec.kv_buffer.size) + num_engines(spec) * _QUEUES_BYTES
        )
    volumes: list[Manifest] = [
        {"name": "shm", "emptyDir": shm},
        {"name": "scratch", "emptyDir": {}},
    ]
    if spec.model.uri.startswith(_PVC):
        claim, _, _ = spec.model.uri.removeprefix(_PVC).partition("/")
        volumes.append(
            {"name": "model", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        )
    return volumes
