"""The chart as tests use it: rendered, and installed on an apiserver that runs nothing."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cluster_client.kubectl import BINARIES, ROOT, SYSTEM, run
from support.control_plane.apiserver import ApiServer

CHART = ROOT / "charts/seesaw"
DEFINITIONS = BINARIES.parent / "crds"  # of the Prometheus operator
PROMTOOL = BINARIES / "promtool"

Json = dict[str, Any]

EVERYTHING: Json = {
    "commonLabels": {"team": "serving"},
    "commonAnnotations": {"owner": "serving"},
    "images": {"prefix": "registry.example.com/team", "pullSecrets": ["registry"]},
    "watchNamespaces": ["one", "two"],
    "log": {"level": "debug", "format": "json"},
    "profiles": {"shared": {"engine": {"podTemplate": {"metadata": {"labels": {"team": "a"}}}}}},
    "operator": {
        "replicas": 2,
        "extraArgs": ["--port=8080"],
        "extraEnv": [{"name": "A", "value": "b"}],
        "envFrom": [{"configMapRef": {"name": "c"}}],
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "podLabels": {"tier": "control"},
        "podAnnotations": {"note": "x"},
    },
    "serviceAccount": {"annotations": {"role": "r"}},
    "monitoring": {
        "serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "p"}},
        "podMonitor": {
            "enabled": True,
            "scrapeTimeout": "5s",
            "relabelings": [{"targetLabel": "cluster", "replacement": "here"}],
            "metricRelabelings": [{"action": "labeldrop", "regex": "x"}],
        },
        "rules": {"enabled": True, "labels": {"release": "p"}, "disabled": ["SeesawLongWaits"]},
        "dashboard": {"enabled": True, "annotations": {"grafana_folder": "LLM"}},
    },
    "networkPolicy": {
        "enabled": True,
        "apiServer": {"cidrs": ["10.0.0.1/32"], "ports": [6443]},
        "monitoring": [{"namespaceSelector": {}}],
        "clients": [{"podSelector": {}}],
    },
}
"""Each value that makes an object or a field."""


def rendered(values: Json | None = None, chart: Path = CHART, *more: str) -> str:
    """What helm would apply, as text. Raises: AssertionError with helm's words."""
    given = (f"--namespace={SYSTEM}", "--kube-version=1.30.0", *more)
    return run("helm", "template", "seesaw", str(chart), *given, *_values(values))


def objects(text: str) -> dict[str, Json]:
    """Rendered objects by ``KIND NAMESPACE/NAME``."""
    bodies: Iterable[Json] = filter(None, yaml.safe_load_all(text))
    return {
        f"{b['kind']} {b['metadata'].get('namespace', '')}/{b['metadata']['name']}": b
        for b in bodies
    }


def on_server(server: ApiServer, *command: str, values: Json | None = None) -> str:
    """A helm command on an apiserver, in the namespace of the release."""
    to = (
        f"--kube-apiserver={server.url}",
        f"--kube-token={server.token}",
        "--kube-insecure-skip-tls-verify",
        f"--namespace={SYSTEM}",
    )
    return run("helm", *command, *to, *_values(values))


def kubectl(server: ApiServer, *command: str, body: str) -> str:
    """kubectl with a body to apply or create. Raises: AssertionError with the apiserver's words."""
    to = (f"--server={server.url}", f"--token={server.token}", "--insecure-skip-tls-verify")
    return run("kubectl", *to, *command, "-f", "-", stdin=body)


def chart_of(commit: str, folder: Path) -> Path:
    """The chart as it was. Skips the test where the history does not reach back so far."""
    command = ["git", "-C", str(ROOT), "archive", commit, "charts/seesaw"]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"no commit {commit} here")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder / "charts/seesaw"


def write_schemas(definitions: Json, folder: Path) -> str:
    """The apiserver's own schemas as kubeconform reads them: a file a kind, nothing unknown.

    Returns kubeconform's flag for them.
    """
    for schema in definitions.values():
        _make_strict(schema)
    text = json.dumps({"definitions": definitions}).replace(
        '"#/definitions/', f'"file://{folder}/all.json#/definitions/'
    )
    (folder / "all.json").write_text(text)
    for name, schema in definitions.items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            file = folder / f"{kind['kind'].lower()}.json"
            file.write_text(json.dumps({"$ref": f"file://{folder}/all.json#/definitions/{name}"}))
    return f"-schema-location={folder}/{{{{ .ResourceKind }}}}.json"


def _make_strict(schema: Any) -> None:
    """Let a schema, and those inside of it, take no field that they do not list."""
    below = schema.values() if isinstance(schema, dict) else schema
    for each in below:
        if isinstance(each, dict | list):
            _make_strict(each)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        schema.setdefault("additionalProperties", False)
    if schema.get("format") == "int-or-string":
        schema["type"] = ["integer", "string"]


def _values(values: Json | None) -> list[str]:
    return [] if values is None else [f"--set-json={k}={json.dumps(v)}" for k, v in values.items()]
