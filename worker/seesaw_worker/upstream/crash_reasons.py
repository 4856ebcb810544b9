"""Records the first exception in an engine's process, for the last line that a user reads.

The processes that report the death of an engine do not know its cause. vLLM logs the exception
where it was raised; this module writes each to a line of a file, which the supervisor removes.
"""

import contextlib
import logging
import time
from pathlib import Path

from seesaw_worker.processes.run_folder import WorkerFiles

BROKEN_FILE = "broken"
_CAUSES_FILE = "causes"
FATAL = (
    "WorkerProc failed",  # at its start or later
    "WorkerProc hit an exception.",
    "EngineCore failed to start.",
    "EngineCore encountered a fatal error.",
)
"""The beginnings of vLLM's log messages with the exception that ends an engine's process."""

_LONGEST = 600
_RECENT_S = 30.0  # the worker has survived an older cause


class _CauseWriter(logging.Handler):
    """Appends the exceptions of fatal log messages to the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not str(record.msg).startswith(FATAL):
            return
        message = " ".join(str(error).split())[:_LONGEST]
        line = f"{time.monotonic()} {type(error).__name__}: {message}\n"
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line)
        except OSError:
            self.handleError(record)  # the log has the exception anyway


def record_causes() -> None:
    """Record fatal exceptions of an engine's process. Called once per process."""
    if (files := WorkerFiles.current()) is not None:
        logging.getLogger("vllm").addHandler(_CauseWriter(files.folder / _CAUSES_FILE))


def save_last_line(line: str) -> None:
    """Save the line that the supervisor prints last, below the output of dying processes."""
    if (files := WorkerFiles.current()) is not None:
        with contextlib.suppress(OSError):
            (files.folder / BROKEN_FILE).write_text(f"{line}\n", errors="backslashreplace")


def first_cause(within_s: float) -> str | None:
    """Return the first cause that any process recorded in the last ``within_s`` seconds."""
    files = WorkerFiles.current()
    if files is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        for line in (files.folder / _CAUSES_FILE).read_text(errors="replace").splitlines():
            at_s, _, cause = line.partition(" ")
            if time.monotonic() - float(at_s) <= within_s:
                return cause
    return None


def with_cause(failure: str) -> str:
    """Return a failure, followed by its cause if an engine's process has recorded one."""
    cause = first_cause(within_s=_RECENT_S)
    return f"{failure}: {cause}" if cause else failure
