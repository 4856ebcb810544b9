"""Sends every row to every subject at once, and collects what differs from plain vLLM."""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from conformance.answers import document
from conformance.differences import Difference, differences
from conformance.rows import Row
from conformance.servers import Server, Subject
from conformance.wire import Answer, send_row

PLAIN: Final = "plain"
"""The subject that all others are compared with."""

_TELL_EVERY_S: Final = 10.0
_READY_S: Final = 60.0

Tell = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Result:
    """What a run found, as far as it came: Ctrl-C ends it early.

    answers: plain vLLM's documents by row.
    """

    num_rows: int = 0

    found: list[Difference] = field(default_factory=list)
    ran: set[tuple[str, str]] = field(default_factory=set)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def run(rows: Sequence[Row], subjects: Sequence[Subject], tell: Tell) -> Result:
    """Run all rows. A server that a row ends is a difference, and is started again."""
    result = Result()
    told = time.monotonic()
    with ThreadPoolExecutor(len(subjects)) as pool, contextlib.suppress(KeyboardInterrupt):
        for number, row in enumerate(rows):
            if time.monotonic() - told > _TELL_EVERY_S:
                told = time.monotonic()
                tell(f"row {number} of {len(rows)}: {row.name}; {len(result.found)} differences")
            answers = list(pool.map(_asking(row), enumerate(subjects)))
            _compare(row, subjects, answers, result)
            _mourn(row, subjects, answers, result, tell)
            result.num_rows += 1
    return result


def _asking(row: Row) -> Callable[[tuple[int, Subject]], list[Answer]]:
    def ask(numbered: tuple[int, Subject]) -> list[Answer]:
        number, subject = numbered
        return send_row(row, subject.server.address, salt=f"salt-{number}")

    return ask


def _compare(
    row: Row, subjects: Sequence[Subject], answers: Sequence[list[Answer]], result: Result
) -> None:
    by_name = {
        subject.name: [document(answer, row.compare) for answer in of]
        for subject, of in zip(subjects, answers, strict=True)
    }
    plain = result.answers[row.name] = by_name[PLAIN]
    for name, documents in by_name.items():
        if name == PLAIN:
            continue
        result.ran.add((name, row.name))
        for where, one, other in differences(plain, documents):
            at = where.removeprefix("[0].") if len(plain) == 1 else where
            result.found.append(
                Difference(subject=name, row=row.name, where=at, plain=one, found=other)
            )


def _mourn(
    row: Row,
    subjects: Sequence[Subject],
    answers: Sequence[list[Answer]],
    result: Result,
    tell: Tell,
) -> None:
    """Note servers that are gone after a row, and start them again."""
    failed = [
        subject
        for subject, of in zip(subjects, answers, strict=True)
        if any(a.failure or a.status >= 500 for a in of)
    ]
    servers: list[Server] = []  # engines before the routers that wait for them
    servers += [s.engine for s in failed if s.engine not in servers]
    servers += [s.server for s in failed if s.server not in servers]
    for server in servers:
        if server.is_serving():
            continue
        names = [s.name for s in subjects if server in (s.engine, s.server)]
        tell(f"{row.name}: the server of {', '.join(names)} is gone; starting it again")
        result.found += [
            Difference(subject=name, row=row.name, where="server", plain="serves", found="is gone")
            for name in names
        ]
        server.stop()
        server.launch()
        server.wait()
        for subject in subjects:
            if subject.engine is server and subject.server.is_alive():
                subject.server.wait(_READY_S)
