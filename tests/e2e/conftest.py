"""A release of the chart on a real cluster, and a namespace for each test."""

import zlib
from collections.abc import Iterator

import pytest

from cluster_client.kubectl import RESTRICTED, ROOT, SYSTEM, Kubectl, helm_install, run


@pytest.fixture(scope="session")
def release() -> Iterator[Kubectl]:
    """The operator, installed by helm in a namespace that enforces the restricted profile."""
    system = Kubectl(SYSTEM)
    system("create", "namespace", SYSTEM, check=False)
    system("label", "namespace", SYSTEM, RESTRICTED, "--overwrite")
    helm_install(ROOT / "charts/seesaw")
    yield system
    run("helm", "uninstall", "seesaw", f"--namespace={SYSTEM}", "--wait")


@pytest.fixture
def kubectl(request: pytest.FixtureRequest, release: Kubectl) -> Iterator[Kubectl]:
    """A namespace of the test's own, which enforces the restricted profile."""
    namespace = f"test-{zlib.crc32(request.node.nodeid.encode())}"
    inside = Kubectl(namespace)
    inside("create", "namespace", namespace)
    inside("label", "namespace", namespace, RESTRICTED)
    yield inside
    inside("delete", "namespace", namespace, "--wait=false")
    inside("delete", "pv", f"models-{namespace}", "--ignore-not-found", "--wait=false")
