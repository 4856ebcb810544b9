"""The routers: a Deployment behind the Service that clients call, and the rights they need."""

from seesaw_operator.api.owned import ROUTER
from seesaw_operator.api.spec import Spec
from seesaw_operator.names import ROUTER_PORT, SERVICE_PORT, Manifest, Owner
from seesaw_operator.objects import pods
from seesaw_operator.objects.merging import with_template
from seesaw_operator.objects.quantities import cores, num_bytes, num_millicores, quantity, seconds
from seesaw_operator.settings import Images, Timing

COMPONENT = "router"
_MARGIN_S = 30
_MOST_UNSERVED_S = 600  # a lone worker that is replaced loads for minutes; its requests wait for it


def router_objects(
    spec: Spec, owner: Owner, images: Images, timing: Timing, *, is_paused: bool
) -> list[Manifest]:
    """Everything that the routers need, in the order in which to create it."""
    deployment = _deployment(spec, owner, images, timing, is_paused=is_paused)
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": owner.metadata(owner.router, COMPONENT),
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": owner.metadata(owner.router, COMPONENT),
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
            "metadata": owner.metadata(owner.router, COMPONENT),
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
        _service(spec, owner),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": owner.metadata(owner.router, COMPONENT),
            "spec": {
                "maxUnavailable": 1,
                "selector": {"matchLabels": owner.selector(COMPONENT)},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        },
        deployment,
    ]


def _service(spec: Spec, owner: Owner) -> Manifest:
    """What clients call."""
    wanted = spec.router.service
    metadata = owner.metadata(owner.name, COMPONENT)
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
        "spec": {"type": wanted.type, "selector": owner.selector(COMPONENT), "ports": [port]}
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
    """Routers that are wanted: none where no worker is."""
    return spec.router.replicas if spec.replicas else 0


def arguments(spec: Spec, owner: Owner, timing: Timing) -> list[str]:
    """The command line of a router. What the user adds comes last, and so wins."""
    return [
        "router",
        f"--service={owner.namespace}/{owner.worker}",
        "--host=0.0.0.0",
        f"--port={ROUTER_PORT}",
        f"--max-wait-s={seconds(spec.waves.max_wait):g}",
        f"--drain-timeout-s={timing.drain_s}",
        f"--max-unserved-s={_MOST_UNSERVED_S}",
        *spec.router.extra_args,
    ]


def _deployment(
    spec: Spec, owner: Owner, images: Images, timing: Timing, *, is_paused: bool
) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(owner.router, COMPONENT),
        "spec": {
            "replicas": num_routers(spec),
            **({"paused": True} if is_paused else {}),
            "revisionHistoryLimit": 3,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "selector": {"matchLabels": owner.selector(COMPONENT)},
            "template": with_template(
                {
                    "metadata": {"labels": owner.labels(COMPONENT)},
                    "spec": _pod(spec, owner, images, timing),
                },
                spec.router.pod_template,
                ROUTER,
            ),
        },
    }


def _pod(spec: Spec, owner: Owner, images: Images, timing: Timing) -> Manifest:
    pod: Manifest = {
        "serviceAccountName": owner.router,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(),
        "terminationGracePeriodSeconds": timing.pre_stop_s + timing.drain_s + _MARGIN_S,
        "topologySpreadConstraints": pods.spread(owner.selector(COMPONENT)),
        "containers": [
            {
                "name": "router",
                "image": spec.router.image or images.router,
                "imagePullPolicy": images.pull_policy,
                "args": arguments(spec, owner, timing),
                "ports": [{"name": "http", "containerPort": ROUTER_PORT}],
                "resources": _resources(spec),
                "securityContext": pods.container_security(),
                # Ready without a worker, too: requests wait in its queue meanwhile.
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
