"""One apiserver for all tests here; without it, and without Go to build it, they are skipped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control_plane.apiserver import BINARIES, ApiServer, running_apiserver


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not (BINARIES / "kube-apiserver").exists():
        skip = pytest.mark.skip(reason="no kube-apiserver: `make control-plane` builds it (Go)")
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_apiserver(tmp_path_factory.mktemp("control-plane")) as server:
        yield server
