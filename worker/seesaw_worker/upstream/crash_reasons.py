"""What first went wrong in an engine's process, for the last line that a user reads.

An engine that dies is reported by processes that only saw it die. vLLM logs the exception where
it was raised; this keeps it, one line each, in a file that the supervisor removes.
"""

import contextlib
import logging
import time
from pathlib import Path

from seesaw_worker.processes.run_folder import WorkerFiles

BROKEN_FILE = "broken"
_CAUSES_FILE = "causes"
FATAL = (
    "WorkerProc failed",  # to start, or for good
    "WorkerProc hit an exception.",
    "EngineCore failed to start.",
    "EngineCore encountered a fatal error.",
)
"""How vLLM's log messages begin that come with the exception an engine's process ends with."""

_LONGEST = 600
_RECENT_S = 30.0  # an older cause is about something that this worker has survived


class _Keeper(logging.Handler):
    """Appends the exceptions of fatal log messages to the file."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not str(record.msg).startswith(FATAL):
            return
        said = " ".join(str(error).split())[:_LONGEST]
        line = f"{time.monotonic()} {type(error).__name__}: {said}\n"
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line)
        except OSError:
            self.handleError(record)  # the log has it all the same


def keep_causes() -> None:
    """In an engine's process: keep what its end will be about. Once a process."""
    if (files := WorkerFiles.current()) is not None:
        logging.getLogger("vllm").addHandler(_Keeper(files.folder / _CAUSES_FILE))


def keep_last_word(line: str) -> None:
    """In the server: what the supervisor shall say last, below all that the dying print."""
    if (files := WorkerFiles.current()) is not None:
        with contextlib.suppress(OSError):
            (files.folder / BROKEN_FILE).write_text(f"{line}\n", errors="backslashreplace")


def first_cause(within_s: float) -> str | None:
    """The first cause that any process gave in the last ``within_s`` seconds."""
    files = WorkerFiles.current()
    if files is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        for line in (files.folder / _CAUSES_FILE).read_text(errors="replace").splitlines():
            at_s, _, cause = line.partition(" ")
            if time.monotonic() - float(at_s) <= within_s:
                return cause
    return None


def with_cause(what: str) -> str:
    """What happened, with the exception that began it, if an engine's process told."""
    cause = first_cause(within_s=_RECENT_S)
    return f"{what}: {cause}" if cause else what
