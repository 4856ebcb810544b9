"""A release of the chart on a real cluster, and a namespace for each test."""

import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from seesaw_worker.synthetic import TINY, write_checkpoint
from support.cluster_client.kubectl import RESTRICTED, ROOT, SYSTEM, Kubectl, helm_install, run
from support.cluster_client.models import MAX_LEN


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


@pytest.fixture(scope="session")
def model() -> Iterator[Path]:
    """A checkpoint where the node can see it: the cluster's node shares the machine's files."""
    folder = Path(tempfile.mkdtemp(prefix="seesaw-e2e-models-", dir="/var/tmp"))
    write_checkpoint(folder / "llama", replace(TINY, max_position_embeddings=MAX_LEN))
    folder.chmod(0o755)
    yield folder / "llama"
    shutil.rmtree(folder, ignore_errors=True)
