"""An apiserver that also knows what the Prometheus operator defines; helm must be there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.chart_release.helm import DEFINITIONS
from support.cluster_client.kubectl import BINARIES, RESTRICTED, ROOT, SYSTEM
from support.control_plane.apiserver import ApiServer, running_apiserver

NEEDED = ("helm", "kubeconform", "glua", "kube-apiserver")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in NEEDED if not (BINARIES / name).exists()]
    if not missing and DEFINITIONS.exists():
        return
    skip = pytest.mark.skip(reason="`make chart-tools` builds what the chart's tests take (Go)")
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_apiserver(tmp_path_factory.mktemp("control-plane")) as server:
        server.kubectl("delete", "crd", "seesawdeployments.seesaw.dev")  # the chart brings it
        server.kubectl("apply", "--server-side", "-f", str(DEFINITIONS))
        waited = ("--for=condition=Established", "--timeout=60s")
        server.kubectl("wait", "crd", "--all", *waited)
        for name in (SYSTEM, "one", "two"):
            server.kubectl("create", "namespace", name)
            server.kubectl("label", "namespace", name, RESTRICTED)
        server.kubectl("create", "serviceaccount", "default", f"--namespace={SYSTEM}")
        yield server


@pytest.fixture
def defined(apiserver: ApiServer) -> Iterator[ApiServer]:
    """With the definition of our resource, which most tests here let the chart bring."""
    file = str(ROOT / "manifests/base/crd.yaml")
    apiserver.kubectl("apply", "--server-side", "-f", file)
    apiserver.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
    yield apiserver
    apiserver.kubectl("delete", "-f", file)


@pytest.fixture(scope="session")
def schemas(apiserver: ApiServer) -> dict[str, object]:
    """The apiserver's schemas of all kinds, those of custom resources too."""
    definitions: dict[str, object] = json.loads(apiserver.kubectl("get", "--raw", "/openapi/v2"))[
        "definitions"
    ]
    return definitions
