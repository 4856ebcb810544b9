"""One whole run: starts the servers, runs the rows, and judges what differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conformance import matrix, servers
from conformance.aftermath import left_behind, unknown_routes
from conformance.client_runs import Client, run_clients
from conformance.differences import Explained, stale
from conformance.explained import EXPLAINED
from conformance.matrix import PLAIN, Result, Tell
from conformance.refusals import retried
from conformance.report import Report
from conformance.rows import Row
from conformance.servers import Server, Subject

SUBJECTS: Final = ("again", "worker", "router", "static")
"""Whom plain vLLM is compared with: itself once more, which shows that the comparison is sound;
a re-sharding worker; a router before that worker; and a router before plain vLLM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to run. ``is_whole``: everything that there is, so that stale explanations show."""

    rows: Sequence[Row]
    clients: Sequence[Client]
    subjects: Sequence[str]
    is_whole: bool


def check(
    asked: Asked, *, folder: Path, tell: Tell, explained: Sequence[Explained] = EXPLAINED
) -> tuple[Result, Report]:
    """Run what is asked for. ``folder`` holds the model, and gets the logs."""
    rows, names = asked.rows, asked.subjects
    plain = servers.plain(folder / "model", folder)
    started: list[Server] = [plain]
    subjects = [Subject(name=PLAIN, server=plain, engine=plain)]
    if "again" in names:
        subjects.append(Subject(name="again", server=plain, engine=plain))
    if {"worker", "router"} & set(names):
        worker = servers.worker(folder / "model", folder)
        started.append(worker)
        if "worker" in names:
            subjects.append(Subject(name="worker", server=worker, engine=worker))
        if "router" in names:
            before = servers.router(worker, folder / "router.log")
            started.append(before)
            subjects.append(Subject(name="router", server=before, engine=worker))
    if "static" in names:
        before = servers.router(plain, folder / "router-static.log")
        started.append(before)
        subjects.append(Subject(name="static", server=before, engine=plain))
    tell(f"starting {', '.join(s.name for s in subjects)}")
    with servers.running(*started):
        tell(f"{len(rows)} rows")
        result = matrix.run(rows, subjects, tell)
        run_clients(asked.clients, subjects, result, tell)
        if "router" in names and asked.clients:
            result.found += retried(tuple(asked.clients), plain, folder)
        result.found += [*unknown_routes(plain), *left_behind(subjects)]
    found = tuple(result.found)
    report = Report(
        num_rows=result.num_rows,
        num_asked=len(rows),
        subjects=tuple(s.name for s in subjects),
        found=found,
        stale=tuple(
            stale(
                explained,
                found,
                result.ran,
                is_whole=asked.is_whole and result.num_rows == len(rows),
            )
        ),
        explained=tuple(explained),
    )
    return result, report
