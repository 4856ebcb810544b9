"""The objects of the routers: a Deployment, the Service that clients call, and access rights."""

from seesaw_operator.api.owned import ROUTER as CONTAINER
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import ROUTER, ROUTER_PORT, SERVICE_PORT, Manifest, Owner
from seesaw_operator.objects import pods
from seesaw_operator.objects.context import Context
from seesaw_operator.objects.merging import with_template
from seesaw_operator.objects.quantities import cores, num_bytes, num_millicores, quantity, seconds

_MARGIN_S = 30
_MOST_UNSERVED_S = 600  # while a lone worker is replaced and loads, its requests wait


def router_objects(context: Context, *, is_paused: bool) -> list[Manifest]:
    """Return everything that the routers need, in the order in which to create it."""
    owner, deployment = context.owner, _deployment(context, is_paused=is_paused)
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": owner.metadata(owner.router, ROUTER),
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": owner.metadata(owner.router, ROUTER),
            "rules": [
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["get", "list", "watch"],
                }
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": owner.metadata(owner.router, ROUTER),
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": owner.router,
            },
            "subjects": [
                {
                    "kind": "ServiceAccount",
                    "name": deployment["spec"]["template"]["spec"]["serviceAccountName"],
                    "namespace": owner.namespace,
                }
            ],
        },
        _service(context.spec, owner),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": owner.metadata(owner.router, ROUTER),
            "spec": {
                "maxUnavailable": 1,
                "selector": {"matchLabels": owner.selector(ROUTER)},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        },
        deployment,
    ]


def _service(spec: Spec, owner: Owner) -> Manifest:
    """Return the Service that clients call."""
    wanted = spec.router.service
    metadata = owner.metadata(owner.name, ROUTER)
    metadata["labels"] |= wanted.labels or {}
    if wanted.annotations:
        metadata["annotations"] = wanted.annotations
    networks = wanted.load_balancer_source_ranges
    port: Manifest = {"name": "http", "port": SERVICE_PORT, "targetPort": "http"}
    if wanted.node_port is not None:
        port["nodePort"] = wanted.node_port
    more = {
        "loadBalancerClass": wanted.load_balancer_class,
        "loadBalancerSourceRanges": networks and list(networks),
        "externalTrafficPolicy": wanted.external_traffic_policy,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"type": wanted.type, "selector": owner.selector(ROUTER), "ports": [port]}
        | {field: value for field, value in more.items() if value is not None},
    }


def _resources(spec: Spec) -> Manifest:
    wanted = spec.router.resources
    requests, limits = {"cpu": "250m", "memory": "256Mi"}, {"memory": "1Gi"}
    if wanted.cpu is not None:
        requests["cpu"] = cores(num_millicores(wanted.cpu))
    if wanted.memory is not None:
        requests["memory"] = limits["memory"] = quantity(num_bytes(wanted.memory))
    return {"requests": requests, "limits": limits}


def num_routers(spec: Spec) -> int:
    """Return how many routers are wanted: none where no worker is."""
    return spec.router.replicas if spec.replicas else 0


def _arguments(context: Context) -> list[str]:
    """Return the command line of a router. Users' flags come last, and so win."""
    spec, owner = context.spec, context.owner
    return [
        "router",
        f"--service={owner.namespace}/{owner.worker}",
        "--host=0.0.0.0",
        f"--port={ROUTER_PORT}",
        f"--max-wait-s={seconds(spec.waves.max_wait):g}",
        f"--drain-timeout-s={context.timing.drain_s}",
        f"--max-unserved-s={_MOST_UNSERVED_S}",
        *spec.router.extra_args,
    ]


def _deployment(context: Context, *, is_paused: bool) -> Manifest:
    spec, owner = context.spec, context.owner
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(owner.router, ROUTER),
        "spec": {
            "replicas": num_routers(spec),
            **({"paused": True} if is_paused else {}),
            "revisionHistoryLimit": 3,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "selector": {"matchLabels": owner.selector(ROUTER)},
            "template": with_template(
                {
                    "metadata": {"labels": owner.labels(ROUTER)},
                    "spec": _pod(context),
                },
                spec.router.pod_template,
                CONTAINER,
            ),
        },
    }


def _pod(context: Context) -> Manifest:
    owner, images, timing = context.owner, context.images, context.timing
    pod: Manifest = {
        "serviceAccountName": owner.router,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(),
        "terminationGracePeriodSeconds": timing.pre_stop_s + timing.drain_s + _MARGIN_S,
        "topologySpreadConstraints": pods.spread(owner.selector(ROUTER)),
        "containers": [
            {
                "name": "router",
                "image": context.spec.router.image or images.router,
                "imagePullPolicy": images.pull_policy,
                "args": _arguments(context),
                "ports": [{"name": "http", "containerPort": ROUTER_PORT}],
                "resources": _resources(context.spec),
                "securityContext": pods.container_security(),
                # A router is ready without a worker, too: requests wait in its queue.
                "readinessProbe": pods.http_probe(
                    "/health", "http", every_s=2, failures=2, timeout_s=3
                ),
                "livenessProbe": pods.http_probe(
                    "/health", "http", every_s=10, failures=6, timeout_s=5
                ),
                "lifecycle": pods.pre_stop(timing.pre_stop_s),
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }
        ],
    }
    if images.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in images.pull_secrets]
    return pod
