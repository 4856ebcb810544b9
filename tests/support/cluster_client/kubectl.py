"""What end-to-end tests do with kubectl and helm on a real cluster.

The cluster is that of ``make cluster-up``, or the user's own if ``KUBECONFIG`` is set; then
``SEESAW_IMAGES`` says where the images are (such as ``registry.example.com/team/``), tagged with
the chart's appVersion.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
BINARIES = Path(os.environ.get("SEESAW_CLUSTER_DIR", Path.home() / ".cache/seesaw-cluster")) / "bin"
IMAGES = os.environ.get("SEESAW_IMAGES", "localhost/")
SYSTEM = "seesaw-system"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"

Json = dict[str, Any]


class Kubectl:
    """kubectl and helm, in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """What it prints. Raises: AssertionError with what it complains of."""
        return run("kubectl", "-n", self.namespace, *arguments, stdin=stdin, check=check)

    def get(self, *arguments: str) -> Json:
        found: Json = json.loads(self("get", *arguments, "-o", "json"))
        return found

    def apply(self, *bodies: Json) -> str:
        items = {"apiVersion": "v1", "kind": "List", "items": list(bodies)}
        return self("apply", "-f", "-", stdin=json.dumps(items))

    def deploy(self, name: str, spec: Json) -> str:
        return self.apply(
            {
                "apiVersion": "seesaw.dev/v1alpha1",
                "kind": "SeesawDeployment",
                "metadata": {"name": name},
                "spec": spec,
            }
        )

    def status(self, name: str) -> Json:
        status: Json = self.get("ssd", name).get("status", {})
        return status

    def condition(self, name: str, kind: str) -> Json:
        found = [c for c in self.status(name).get("conditions", ()) if c["type"] == kind]
        return found[0] if found else {}

    def pods(self, name: str, component: str) -> list[Json]:
        labels = f"seesaw.dev/deployment={name},app.kubernetes.io/component={component}"
        items: list[Json] = self.get("pods", "-l", labels)["items"]
        return items

    def until_ready(self, name: str, timeout_s: float = 120.0) -> None:
        def is_ready() -> bool:
            return bool(self.condition(name, "Ready").get("status") == "True")

        self.until(is_ready, timeout_s, lambda: json.dumps(self.status(name), indent=1))

    def until(
        self, condition: Callable[[], bool], timeout_s: float, told: Callable[[], str]
    ) -> float:
        """Wait until it holds. Returns the seconds; raises: AssertionError with what was there."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > timeout_s:
                pods = self("get", "pods", "-o", "wide", check=False)
                events = self("get", "events", "--sort-by=.lastTimestamp", check=False)
                raise AssertionError("\n".join([told(), pods, events[-3000:]]))
            time.sleep(0.2)
        return time.monotonic() - began

    def client(self, name: str, *command: str, stdin: str | None = None) -> str:
        """Run a command in a pod of the test image, and return what it prints."""
        self.run_pod(name, ["sleep", "infinity"])
        self("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
        try:
            return self("exec", "-i", name, "--", *command, stdin=stdin)
        finally:
            self("delete", "pod", name, "--grace-period=0", "--force")

    def run_pod(self, name: str, command: list[str]) -> None:
        """Start a pod of the test image."""
        security = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [
                        {
                            "name": "client",
                            "image": f"{IMAGES}seesaw-test:1",
                            "imagePullPolicy": "IfNotPresent",
                            "command": command,
                            "securityContext": security,
                        }
                    ],
                },
            }
        )


def run(tool: str, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """Run kubectl or helm. Raises: AssertionError with what it complains of."""
    command = [str(BINARIES / tool) if (BINARIES / tool).exists() else tool, *arguments]
    ended = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert not check or ended.returncode == 0, (
        f"{tool} {' '.join(arguments)}: {ended.stderr}{ended.stdout}"
    )
    return ended.stdout


def helm_install(chart: Path) -> str:
    """Install or upgrade the release, and wait for it."""
    values = {
        "images.prefix": IMAGES,
        "timing.drainSeconds": "60",
        "timing.preStopSeconds": "3",
        "timing.measureEverySeconds": "1",
    }
    given = [f"--set-string={name}={value}" for name, value in values.items()]
    return run(
        *("helm", "upgrade", "--install", "seesaw", str(chart), f"--namespace={SYSTEM}"),
        *(*given, "--wait", "--timeout=120s"),
    )
