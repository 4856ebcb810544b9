"""Observes a worker from outside: its processes by their roles, and its shared memory.

A segment belongs to a worker if one of its processes has ever mapped it, so that other engines on
the same machine do not matter.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from seesaw_cli.serve.local import LocalWorker
from seesaw_worker.processes.run_folder import SHM
from seesaw_worker.processes.segments import mapped_segments
from seesaw_worker.processes.shm import RUN_FOLDER

GONE_WITHIN_S = 10.0

StartWorker = Callable[..., LocalWorker]


def tree(worker: LocalWorker) -> list[psutil.Process]:
    """Return every process of a worker, the supervisor first."""
    supervisor = psutil.Process(worker.process.pid)
    return [supervisor, *supervisor.children(recursive=True)]


def living(worker: LocalWorker) -> Iterator[psutil.Process]:
    for process in tree(worker):
        if is_alive(process):
            yield process


def role_of(process: psutil.Process) -> str:
    """Return ``supervisor``, ``server``, ``fork server``, ``EngineCore``, ``Worker_TP0``, …"""
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
    """The processes and the shared memory that a worker has had."""

    processes: list[psutil.Process] = field(default_factory=list)
    segments: set[Path] = field(default_factory=set)

    def watch(self, worker: LocalWorker) -> None:
        now = tree(worker)
        self.processes += [p for p in now if p not in self.processes]
        self.segments |= mapped_segments(now)

    def alive(self) -> list[str]:
        return [f"{p.pid} {role_of(p)}" for p in self.processes if is_alive(p)]

    def left(self) -> list[Path]:
        """Return the shared memory and run folders of this worker that still exist."""
        pids = {p.pid for p in self.processes}
        folders = [p for p in SHM.glob("*seesaw-*-*") if owner_pid(p) in pids]
        return folders + [s for s in self.segments if s.exists()]

    def assert_nothing_left(self) -> None:
        assert wait_for(lambda: not self.alive(), GONE_WITHIN_S) < GONE_WITHIN_S, self.alive()
        left = self.left()
        assert left == [], left


def owner_pid(folder: Path) -> int | None:
    found = RUN_FOLDER.fullmatch(folder.name.removeprefix("."))
    return int(found[0].split("-")[1]) if found else None
