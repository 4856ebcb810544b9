"""Pod templates that set everything that may be set, and what they are merged for."""

from typing import Any

from seesaw_operator.names import Owner
from seesaw_operator.settings import Images

Json = dict[str, Any]

OWNER = Owner(name="llama", namespace="team", uid="1234")
IMAGES = Images(worker="w:1", worker_cpu="c:1", router="r:1", pull_secrets=("ours",))

METADATA: Json = {
    "labels": {"team": "search", "example.com/cost-centre": "7"},
    "annotations": {"sidecar.istio.io/inject": "false"},
}
_FIELDS: Json = {
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}
                ]
            }
        }
    },
    "dnsConfig": {"nameservers": ["10.0.0.10"], "options": [{"name": "ndots", "value": "2"}]},
    "dnsPolicy": "None",
    "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["models.example.com"]}],
    "hostUsers": False,
    "imagePullSecrets": [{"name": "registry"}],
    "initContainers": [
        {"name": "fetch", "image": "fetch:1", "volumeMounts": [{"name": "d", "mountPath": "/d"}]},
        {
            "name": "proxy",
            "image": "proxy:1",
            "restartPolicy": "Always",
            "ports": [{"containerPort": 9090, "name": "proxy"}],
            "startupProbe": {"tcpSocket": {"port": "proxy"}},
        },
    ],
    "nodeSelector": {"pool": "llm"},
    "preemptionPolicy": "Never",
    "priorityClassName": "serving",
    "readinessGates": [{"conditionType": "example.com/registered"}],
    "resourceClaims": [{"name": "nic", "resourceClaimTemplateName": "nic"}],
    "runtimeClassName": "nvidia",
    "schedulerName": "volcano",
    "schedulingGates": [{"name": "example.com/quota"}],
    "securityContext": {
        "runAsUser": 1000,
        "supplementalGroups": [44, 109],
        "fsGroupChangePolicy": "OnRootMismatch",
    },
    "serviceAccountName": "models",
    "tolerations": [{"key": "llm", "operator": "Exists", "effect": "NoSchedule"}],
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"team": "search"}},
        }
    ],
    "volumes": [
        {"name": "d", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "certs", "secret": {"secretName": "certs"}},
    ],
}
_SIDECAR: Json = {
    "name": "logs",
    "image": "logs:1",
    "args": ["--follow"],
    "ports": [
        {"containerPort": 9100, "name": "metrics"},
        {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
        {"containerPort": 53, "name": "dns-udp", "protocol": "UDP"},
    ],
    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "1e9"}},
}
_ADDED: Json = {
    "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
    "envFrom": [{"configMapRef": {"name": "tuning", "optional": True}}],
    "resources": {
        "requests": {"ephemeral-storage": "10Gi"},
        "limits": {"ephemeral-storage": "20Gi"},
        "claims": [{"name": "nic"}],
    },
    "securityContext": {"readOnlyRootFilesystem": False},
    "volumeMounts": [
        {"name": "d", "mountPath": "/scratch/.cache"},
        {"name": "certs", "mountPath": "/etc/ssl/extra", "readOnly": True},
    ],
}
_SPREAD: Json = _FIELDS["topologySpreadConstraints"][0]
FOR_ENGINE: Json = {
    "metadata": METADATA,
    "spec": _FIELDS
    | {
        "automountServiceAccountToken": True,
        "containers": [{"name": "engine"} | _ADDED, _SIDECAR],
        "topologySpreadConstraints": [
            _SPREAD,
            _SPREAD | {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/region"},
        ],
    },
}
FOR_ROUTER: Json = {
    "metadata": METADATA,
    "spec": _FIELDS
    | {"automountServiceAccountToken": True, "containers": [{"name": "router"} | _ADDED, _SIDECAR]},
}
