"""How a worker's server ends, and speaks, whatever hangs and whoever reads its log."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from seesaw_worker.processes.watchdog import ENDING, kill_children

_FORCED_END_S = 6.0


def end_now(code: int, close: Callable[[], None]) -> NoReturn:
    """End without waiting for anything: threads may hang on processes that are dead.

    ``close`` removes what the worker has made.
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
    """End in a few seconds, unless all has ended by then."""
    backstop = threading.Timer(_FORCED_END_S, end_now, (code, close))
    backstop.daemon = True
    backstop.start()


def say(line: str) -> None:
    """Write to the log. Nothing that acts may depend on whether it can be written."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)
