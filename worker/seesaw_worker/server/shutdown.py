"""Ends the server process and writes its log, even if threads hang or nobody reads the log."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from seesaw_worker.processes.watchdog import ENDING, kill_children

_FORCED_END_S = 6.0


def end_now(code: int, close: Callable[[], None]) -> NoReturn:
    """Exit without waiting for threads, which may hang on dead processes.

    ``close`` removes the files and shared memory of the worker.
    """
    with ENDING:
        try:
            kill_children()
            close()
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError):
                    stream.flush()
        finally:
            os._exit(code)


def end_whatever_hangs(code: int, close: Callable[[], None]) -> None:
    """Exit in a few seconds unless the process has ended by then."""
    backstop = threading.Timer(_FORCED_END_S, end_now, (code, close))
    backstop.daemon = True
    backstop.start()


def say(line: str) -> None:
    """Write a line to the log. A log that cannot be written must not stop the worker."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
