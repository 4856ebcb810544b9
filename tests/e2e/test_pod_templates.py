"""Pods with more in them than the operator puts there: they run, serve and can reach each other."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from support.cluster_client.kubectl import IMAGES, Json, Kubectl

pytestmark = pytest.mark.e2e

IMAGE = f"{IMAGES}seesaw-test:1"
CONFINED: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
SHARED: Json = {"name": "shared", "mountPath": "/shared"}
WRITE = "open('/shared/{name}', 'w').write('{name}'); import time; time.sleep({seconds})"


def container(name: str, seconds: int, **more: Any) -> Json:
    """One that leaves its name in the shared volume, and then stays for so long."""
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", WRITE.format(name=name, seconds=seconds)],
        "securityContext": CONFINED,
        "volumeMounts": [SHARED],
    } | more


def template(ours: str, account: str) -> Json:
    to_ours = {"env": [{"name": "TEAM", "value": "search"}], "volumeMounts": [SHARED]}
    return {
        "metadata": {"labels": {"team": "search"}, "annotations": {"example.com/note": "added"}},
        "spec": {
            "serviceAccountName": account,
            "volumes": [{"name": "shared", "emptyDir": {"sizeLimit": "1Mi"}}],
            "initContainers": [
                container("first", 0),
                container("always", 3600, restartPolicy="Always"),
            ],
            "containers": [{"name": ours} | to_ours, container("beside", 3600)],
        },
    }


SPEC: Json = {
    "model": {"uri": "stand-in"},
    "accelerator": {"resourceName": "cpu", "count": 2},
    "kvBuffer": {"size": "16Mi"},
    "engine": {
        "image": IMAGE,
        "resources": {"cpu": "50m", "memory": "128Mi"},
        "podTemplate": template("engine", "of-workers"),
    },
    "router": {"podTemplate": template("router", "of-routers")},
}
LOOK = "import os; print(sorted(os.listdir('/shared')), os.environ['TEAM'])"


def test_pods_run_with_sidecars_volumes_and_service_accounts_of_the_users(
    kubectl: Kubectl,
) -> None:
    for account in ("of-workers", "of-routers"):
        kubectl("create", "serviceaccount", account)
    kubectl.deploy("more", SPEC)
    kubectl.until_ready("more")
    for component, ours in (("worker", "engine-0"), ("router", "router")):
        (pod,) = kubectl.pods("more", component)
        name = pod["metadata"]["name"]
        assert pod["spec"]["serviceAccountName"] == f"of-{component}s"
        assert pod["metadata"]["labels"]["team"] == "search"
        assert pod["metadata"]["annotations"]["example.com/note"] == "added"
        statuses = pod["status"]["containerStatuses"]
        assert {s["name"]: s["ready"] for s in statuses} == {ours: True, "beside": True}
        look = partial(kubectl, "exec", name, "-c", ours, "--", "python3", "-c", LOOK)

        def is_seen(look: Callable[[], str] = look) -> bool:
            return look().strip() == "['always', 'beside', 'first'] search"

        kubectl.until(is_seen, 30, look)  # whatever is ready has not yet done its work
    url = f"http://more.{kubectl.namespace}.svc/v1"
    ask = [
        "import json, urllib.request as r",
        "body = json.dumps({'model': 'more', 'prompt': 'hello', 'max_tokens': 4}).encode()",
        "head = {'content-type': 'application/json'}",
        f"print(r.urlopen(r.Request('{url}/completions', body, head)).status)",
    ]
    assert kubectl.client("client", "python3", "-c", "\n".join(ask)).strip() == "200"


def test_a_sidecar_in_trouble_is_told_by_its_own_name(kubectl: Kubectl) -> None:
    missing = {"name": "beside", "image": "localhost/nobody:1", "securityContext": CONFINED}
    pods = {"spec": {"containers": [missing]}}
    kubectl.deploy("sick", SPEC | {"engine": SPEC["engine"] | {"podTemplate": pods}, "router": {}})

    def is_told() -> bool:
        ready = kubectl.condition("sick", "Ready")
        return ready.get("reason") == "ImagePullFailed" and "podTemplate" in ready["message"]

    kubectl.until(is_told, 60, lambda: json.dumps(kubectl.status("sick"), indent=1))


def test_a_sidecar_that_its_namespace_forbids_is_told_in_the_namespaces_words(
    kubectl: Kubectl,
) -> None:
    free = container("beside", 3600, securityContext={"privileged": True})
    pods = {"spec": {"containers": [free], "volumes": [{"name": "shared", "emptyDir": {}}]}}
    kubectl.deploy("wild", SPEC | {"engine": SPEC["engine"] | {"podTemplate": pods}, "router": {}})

    def is_told() -> bool:
        degraded = kubectl.condition("wild", "Degraded")
        return degraded.get("reason") == "PodsRefused" and "privileged" in degraded["message"]

    kubectl.until(is_told, 60, lambda: json.dumps(kubectl.status("wild"), indent=1))
