"""``kill -9`` or a stop of a process of an elastic worker: what must end ends, the rest serves."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seesaw_cli.serve.local import LocalWorker
from seesaw_core.messages import ElasticState
from seesaw_worker.modes.static.reference import Sample
from support.elastic.asking import tokens_of
from support.process_watch.machine import Machine, find, role_of, tree, wait_for

pytestmark = [pytest.mark.engine, pytest.mark.slow]

DEADLINE_S = 8.0
ENDS_WITHIN_S = 20.0
FLAGS = (
    "--elastic-instances=2",
    f"--elastic-timeout-s={DEADLINE_S}",
    "--dtype=float32",
    "--enforce-eager",
    "--max-model-len=1024",
    "--block-size=32",
    "--generation-config=vllm",
    "--kv-cache-memory-bytes=8388608",
)
LONG = [
    Sample(prompt=[11 + i] * 40, params={"temperature": 0.0, "max_tokens": 250, "ignore_eos": True})
    for i in range(4)
]

Start = Callable[..., LocalWorker]


@pytest.fixture
def start(tiny_model: Path, tmp_path: Path) -> Iterator[Start]:
    workers: list[LocalWorker] = []

    def start_one(*flags: str) -> LocalWorker:
        log = tmp_path / f"{len(workers)}.log"
        workers.append(LocalWorker(tiny_model, [*FLAGS, *flags], log=log))
        workers[-1].start()
        return workers[-1]

    yield start_one
    for worker in workers:
        worker.stop()


def part_of(worker: LocalWorker) -> ElasticState:
    part = worker.state().elastic
    assert part is not None
    return part


async def disturb(worker: LocalWorker, act: Callable[[], None]) -> list[list[int]]:
    """Act once all requests run; return their tokens."""
    asking = asyncio.create_task(tokens_of(worker, LONG))
    async with asyncio.timeout(60):
        while part_of(worker).num_running < len(LONG):
            await asyncio.sleep(0.05)
    act()
    return await asking


def test_the_tree_of_processes_is_the_known_one(start: Start, machine: Machine) -> None:
    """And each of its processes has its turn below."""
    worker = start()
    machine.watch(worker)
    roles = sorted(role_of(p) for p in tree(worker))
    assert [r for r in roles if r != "resource tracker"] == [
        "EngineCore",
        "Worker",
        "Worker",
        "fork server",
        "server",
        "supervisor",
    ]
    worker.stop()
    machine.assert_nothing_left()


@pytest.mark.parametrize("role", ["supervisor", "server", "fork server", "EngineCore"])
def test_a_worker_without_one_of_these_ends_and_leaves_nothing(
    role: str, start: Start, machine: Machine
) -> None:
    worker = start()
    machine.watch(worker)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever a client hears of a death
        asyncio.run(disturb(worker, find(worker, role).kill))
    assert wait_for(lambda: worker.process.poll() is not None, ENDS_WITHIN_S) < ENDS_WITHIN_S
    assert worker.process.returncode != 0
    machine.assert_nothing_left()


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_hangs_costs_no_request(
    number: int, signal_number: signal.Signals, start: Start, machine: Machine
) -> None:
    worker = start()
    machine.watch(worker)
    expected = asyncio.run(tokens_of(worker, LONG))
    victim, began_s = find(worker, "Worker", number), time.monotonic()
    found = asyncio.run(disturb(worker, lambda: victim.send_signal(signal_number)))
    assert found == expected
    assert time.monotonic() - began_s < DEADLINE_S + 60
    part = part_of(worker)
    assert len(part.lost_instances) == 1
    assert part.capacity_tokens[part.lost_instances[0]] == 0
    assert asyncio.run(tokens_of(worker, LONG[:1])) == expected[:1]
    assert worker.stop() == 0
    machine.assert_nothing_left()


def test_a_rank_of_two_takes_its_instance_with_it(start: Start, machine: Machine) -> None:
    worker = start("--tensor-parallel-size=2")
    machine.watch(worker)
    expected = asyncio.run(tokens_of(worker, LONG))
    victim = find(worker, "Worker_TP1", 0)
    assert asyncio.run(disturb(worker, victim.kill)) == expected
    assert len(part_of(worker).lost_instances) == 1
    assert worker.stop() == 0
    machine.assert_nothing_left()


def test_a_worker_without_instances_ends(start: Start, machine: Machine) -> None:
    worker = start()
    machine.watch(worker)
    ranks = [find(worker, "Worker", number) for number in range(2)]

    def kill() -> None:
        for rank in ranks:
            rank.kill()

    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever a client hears of a death
        asyncio.run(disturb(worker, kill))
    assert wait_for(lambda: worker.process.poll() is not None, ENDS_WITHIN_S) < ENDS_WITHIN_S
    assert worker.process.returncode == 1
    machine.assert_nothing_left()
