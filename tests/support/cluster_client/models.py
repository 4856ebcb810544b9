"""A small model where a pod on the cluster's node can read it."""

from pathlib import Path
from typing import Any

from support.cluster_client.kubectl import Kubectl

MAX_LEN = 1024
ENGINE: dict[str, Any] = {
    "dtype": "float32",
    "max_model_len": MAX_LEN,
    "block_size": 32,
    "generation_config": "vllm",
    "kv_cache_memory_bytes": 64 << 20,
    "max_num_seqs": 8,
}
# What a resource says in its own fields is no flag.
FLAGS = [
    f"--{name.replace('_', '-')}={value}"
    for name, value in ENGINE.items()
    if name != "max_model_len"
]
LOADED_S = 300.0


def claim_models(kubectl: Kubectl, model: Path) -> None:
    """A volume with the models, claimed as ``models``."""
    name = f"models-{kubectl.namespace}"
    size = {"storage": "1Gi"}
    modes = ["ReadOnlyMany"]
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": size,
            "accessModes": modes,
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(model.parent), "type": "Directory"},
            "claimRef": {"namespace": kubectl.namespace, "name": "models"},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": kubectl.namespace},
        "spec": {
            "accessModes": modes,
            "storageClassName": "",
            "volumeName": name,
            "resources": {"requests": size},
        },
    }
    kubectl.apply(volume, claim)
    kubectl("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/models", "--timeout=30s")
