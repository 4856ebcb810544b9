"""What the tests of whole workers share: a small model, and workers that never outlive a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from seesaw_cli.serve.local import LocalWorker
from seesaw_worker.synthetic import TINY, write_checkpoint
from support.process_watch.machine import Machine, StartWorker
from support.tiny_worker import FLAGS


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_checkpoint(path, TINY)
    return path


@pytest.fixture
def start_worker(tiny_model: Path, tmp_path: Path) -> Iterator[StartWorker]:
    """Start a worker of two CPU ranks; further flags overrule ours. Stopped after the test."""
    workers: list[LocalWorker] = []

    def start(*flags: str, model: Path | None = None, wait: bool = True) -> LocalWorker:
        log = tmp_path / f"worker-{len(workers)}.log"
        worker = LocalWorker(model or tiny_model, [*FLAGS, *flags], log=log)
        workers.append(worker)
        worker.launch()
        if wait:
            worker.wait_until_healthy()
        return worker

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture
def machine() -> Machine:
    return Machine()
