"""``kill -9`` of any process of a worker: clients hear of it, and nothing of it is left.

Each test watches the whole machine from outside: processes by their pidfds, shared memory by its
directory. A segment is this worker's if one of its processes ever had it mapped, so that other
engines may run, and leak, on the same machine.
"""

import asyncio
import json
import random
import re
import signal
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from seesaw_cli.local import LocalWorker
from seesaw_worker.shm import RUN_FOLDER
from seesaw_worker.supervisor import mapped_segments
from seesaw_worker.synthetic import TINY, write_checkpoint

pytestmark = [pytest.mark.engine, pytest.mark.slow]

SHM = Path("/dev/shm")
CLIENTS_HEAR_WITHIN_S = 5.0
GONE_WITHIN_S = 10.0
LOADED_WITHIN_S = 300.0  # on a busy machine
MAX_TOKENS = 400

StartWorker = Callable[..., LocalWorker]


# ---- what is there, seen from outside


def tree(worker: LocalWorker) -> list[psutil.Process]:
    """Every process of a worker, the supervisor first."""
    supervisor = psutil.Process(worker.process.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def living(worker: LocalWorker) -> Iterator[psutil.Process]:
    for process in tree(worker):
        if is_alive(process):
            yield process


def role_of(process: psutil.Process) -> str:
    """``supervisor``, ``server``, ``fork server``, ``EngineCore``, ``Worker_TP0``, …"""
    try:
        words = " ".join(process.cmdline()).strip()
    except psutil.Error:
        words = ""
    if not words:
        return "ended"
    for sign, role in (
        ("resource_tracker", "resource tracker"),
        ("forkserver", "fork server"),
        ("--as-server", "server"),
        ("seesaw_cli.main worker", "supervisor"),
    ):
        if sign in words:
            return role
    return words.split()[0].removeprefix("VLLM::")


def find(worker: LocalWorker, role: str, index: int = 0) -> psutil.Process:
    found = [p for p in living(worker) if role_of(p) == role]
    assert index < len(found), f"no {role} {index} among {[role_of(p) for p in living(worker)]}"
    return found[index]


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool], timeout_s: float) -> float:
    """Wait until a condition holds. Returns the seconds it took; infinite if it never did."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            return float("inf")
        time.sleep(0.02)
    return time.monotonic() - began


@dataclass(kw_only=True)
class Machine:
    """Everything that a worker was seen to have."""

    processes: list[psutil.Process] = field(default_factory=list)
    segments: set[Path] = field(default_factory=set)

    def watch(self, worker: LocalWorker) -> None:
        now = tree(worker)
        self.processes += [p for p in now if p not in self.processes]
        self.segments |= mapped_segments(now)

    def alive(self) -> list[str]:
        return [f"{p.pid} {role_of(p)}" for p in self.processes if is_alive(p)]

    def left(self) -> list[Path]:
        """Shared memory and run folders of this worker that are still there."""
        pids = {p.pid for p in self.processes}
        folders = [p for p in SHM.glob("*seesaw-*-*") if owner_pid(p) in pids]
        return folders + [s for s in self.segments if s.exists()]

    def assert_nothing_left(self) -> None:
        assert wait_for(lambda: not self.alive(), GONE_WITHIN_S) < GONE_WITHIN_S, self.alive()
        assert self.left() == []


def owner_pid(folder: Path) -> int | None:
    found = RUN_FOLDER.fullmatch(folder.name.removeprefix("."))
    return int(found[0].split("-")[1]) if found else None


@pytest.fixture
def machine() -> Machine:
    return Machine()


# ---- load


@dataclass
class Client:
    """Asks again and again until something goes wrong, and how that showed."""

    is_stream: bool
    num_tokens: int = 0
    outcome: str = "running"
    ended_s: float = 0.0


async def ask(http: aiohttp.ClientSession, worker: LocalWorker, client: Client, seed: int) -> None:
    rng = random.Random(seed)
    body = {
        "model": worker.model,
        "prompt": [rng.randrange(10, 900) for _ in range(rng.choice((3, 40, 150)))],
        "max_tokens": MAX_TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        "stream": client.is_stream,
    }
    try:
        while client.outcome == "running":
            async with http.post(f"{worker.url}/v1/completions", json=body) as response:
                if response.status != 200:
                    client.outcome = f"status {response.status}"
                elif client.is_stream:
                    await read_stream(response, client)
                else:
                    await response.read()
    except (aiohttp.ClientError, ConnectionError) as error:
        client.outcome = type(error).__name__
    finally:
        client.ended_s = time.monotonic()


async def read_stream(response: aiohttp.ClientResponse, client: Client) -> None:
    is_whole = False
    async for line in response.content:
        text = line.decode().removeprefix("data: ").strip()
        if text == "[DONE]":
            is_whole = True
        elif text:
            if "error" in json.loads(text):
                client.outcome = "error"
            client.num_tokens += 1
    if not is_whole and client.outcome == "running":
        client.outcome = "cut off"


async def kill_under_load(
    worker: LocalWorker, victim: psutil.Process, seed: int
) -> tuple[list[Client], float]:
    """Kill a process while streams run and prompts come.

    Returns what clients saw, late ones still ``running``, and the moment of the kill.
    """
    rng = random.Random(seed)
    clients: list[Client] = []
    tasks: list[asyncio.Task[None]] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:

        def begin(is_stream: bool) -> None:
            clients.append(Client(is_stream=is_stream))
            tasks.append(asyncio.create_task(ask(http, worker, clients[-1], seed + len(clients))))

        for _ in range(3):
            begin(True)
        async with asyncio.timeout(30):
            while any(c.num_tokens < 2 for c in clients):
                await asyncio.sleep(0.05)
        for index in range(5):
            begin(bool(index % 2))
            await asyncio.sleep(rng.uniform(0, 0.3))
        victim.kill()
        killed_s = time.monotonic()
        _, late = await asyncio.wait(tasks, timeout=CLIENTS_HEAR_WITHIN_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return clients, killed_s


# ---- the tests

VICTIMS = [
    ("supervisor", 0),
    ("server", 0),
    ("resource tracker", 0),
    ("fork server", 0),
    ("EngineCore", 0),
    ("EngineCore", 1),
    ("Worker_PP0", 0),
    ("Worker_PP1", 0),
    ("Worker_TP0", 0),
    ("Worker_TP1", 0),
]


@pytest.mark.parametrize(("role", "index"), VICTIMS, ids=[f"{r}-{i}" for r, i in VICTIMS])
def test_a_killed_process_ends_the_worker_and_its_clients_hear_of_it(
    role: str, index: int, start_worker: StartWorker, machine: Machine
) -> None:
    worker = start_worker("--kv-buffer-gib=0.05", "--flush-timeout-s=0.5")
    machine.watch(worker)
    assert len(machine.segments) > 10, "what shall be gone is there now"
    assert len(machine.left()) > 10
    roles = {role_of(p) for p in living(worker)}
    assert roles == {r for r, _ in VICTIMS}, "each process of the worker has its turn here"

    seed = VICTIMS.index((role, index))
    clients, killed_s = asyncio.run(kill_under_load(worker, find(worker, role, index), seed))
    wait_for(lambda: not machine.alive(), killed_s + GONE_WITHIN_S - time.monotonic())
    gone_s = time.monotonic() - killed_s
    outcomes = [c.outcome for c in clients]
    slowest_s = max(c.ended_s for c in clients) - killed_s
    print(f"{role} {index}: clients {outcomes} within {slowest_s:.2f} s, gone {gone_s:.2f} s")
    assert "running" not in outcomes
    machine.assert_nothing_left()
    assert gone_s < GONE_WITHIN_S
    assert worker.process.wait(timeout=1) != 0


@pytest.mark.parametrize(
    ("victim", "once_there", "after_s"),
    [
        ("supervisor", "server", 1.0),
        ("supervisor", "EngineCore", 0.5),
        ("server", "server", 1.0),
        ("server", "Worker_TP0", 0.3),
        ("EngineCore", "EngineCore", 0.4),
        ("Worker_PP1", "Worker_PP1", 0.5),
        ("Worker_TP0", "Worker_TP0", 0.1),
    ],
)
def test_a_process_killed_while_loading_leaves_nothing(
    victim: str, once_there: str, after_s: float, start_worker: StartWorker, machine: Machine
) -> None:
    worker = start_worker("--kv-buffer-gib=0.05", wait=False)
    watch_loading(worker, machine, once_there, after_s)
    find(worker, victim).kill()
    machine.assert_nothing_left()
    assert worker.process.wait(timeout=1) != 0


@pytest.mark.parametrize(
    ("once_there", "after_s"), [("server", 0.5), ("EngineCore", 0.3), ("Worker_TP0", 0.3)]
)
def test_sigterm_while_loading_ends_the_worker_soon_and_leaves_nothing(
    once_there: str, after_s: float, start_worker: StartWorker, machine: Machine
) -> None:
    worker = start_worker("--kv-buffer-gib=0.05", wait=False)
    watch_loading(worker, machine, once_there, after_s)
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(timeout=GONE_WITHIN_S) == 0
    machine.assert_nothing_left()


def watch_loading(worker: LocalWorker, machine: Machine, role: str, after_s: float) -> None:
    """Follow a worker while it loads, until ``after_s`` after a process has come up."""
    assert wait_for(lambda: role in map(role_of, living(worker)), LOADED_WITHIN_S) < LOADED_WITHIN_S
    until = time.monotonic() + after_s
    while time.monotonic() < until:
        machine.watch(worker)
        time.sleep(0.02)
    assert not worker.is_healthy(), "it was to end before it serves"
    machine.watch(worker)


def test_an_engine_that_cannot_start_ends_the_worker_with_the_cause(
    start_worker: StartWorker, machine: Machine, tmp_path: Path
) -> None:
    """Only the second prefill stage meets the bad tensor, and the decode engine waits for it."""
    model = tmp_path / "broken"
    write_checkpoint(model, TINY)
    swap_shape(model, "model.layers.3.mlp.down_proj.weight")
    worker = start_worker("--kv-buffer-gib=0.05", model=model, wait=False)
    failed = "WorkerProc failed to start"
    assert wait_for(lambda: failed in worker.log.read_text(), LOADED_WITHIN_S) < LOADED_WITHIN_S
    code = worker.process.wait(timeout=GONE_WITHIN_S)
    log = worker.log.read_text()
    machine.assert_nothing_left()
    assert code == 1, log
    last = log.splitlines()[-1]
    assert re.search(r"broken: (an engine could not start|VLLM::Worker.* has died)", last), log
    assert "RuntimeError: start (0) + length" in last, log
    assert "exceeds dimension size (256)" in last, log


def swap_shape(model: Path, name: str) -> None:
    """Let a checkpoint's header claim the transposed shape of a tensor."""
    for path in model.glob("*.safetensors"):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        if name in header:
            header[name]["shape"].reverse()
            text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
            assert len(text) == length
            path.write_bytes(data[:8] + text + data[8 + length :])
            return
    raise AssertionError(f"no tensor {name}")


def test_a_start_removes_what_a_worker_left_that_was_killed_as_a_whole_and_serves(
    start_worker: StartWorker, machine: Machine
) -> None:
    victim = start_worker("--kv-buffer-gib=0.05")
    machine.watch(victim)
    for number in (signal.SIGSTOP, signal.SIGKILL):  # so that nobody can clean up
        for process in machine.processes:
            process.send_signal(number)
    victim.process.wait()
    assert wait_for(lambda: not machine.alive(), GONE_WITHIN_S) < GONE_WITHIN_S
    assert len(machine.left()) > 4
    worker = start_worker("--kv-buffer-gib=0.05")
    assert machine.left() == []

    async def complete() -> Any:
        async with aiohttp.ClientSession() as http:
            body = {"model": worker.model, "prompt": [5, 6, 7], "max_tokens": 4, "ignore_eos": True}
            async with http.post(f"{worker.url}/v1/completions", json=body) as response:
                return await response.json()

    assert asyncio.run(complete())["usage"]["completion_tokens"] == 4
    assert worker.stop() == 0
