"""What all our pods share: the restricted profile, volumes to write to, and going gently."""

from seesaw_operator.names import Manifest

USER = 65532


def pod_security() -> Manifest:
    """A pod's security context under the restricted Pod Security Standard."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def http_probe(path: str, port: str, *, every_s: int, failures: int, timeout_s: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": every_s,
        "failureThreshold": failures,
        "timeoutSeconds": timeout_s,
    }


def pre_stop(sleep_s: int) -> Manifest:
    """Keep serving while routers and proxies learn that this pod is going."""
    return {"preStop": {"sleep": {"seconds": sleep_s}}}


def spread(selector: dict[str, str]) -> list[Manifest]:
    """Prefer nodes that have none of these pods yet, so that the loss of one loses few."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector},
        }
    ]
