"""What commands share: parsers that refuse in one line, and processes that end with them."""

import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.pool import Pool

AS_SERVER = "--as-server"
"""Given by ``seesaw worker`` to the process that it supervises."""


def asks_for_help(arguments: Sequence[str]) -> bool:
    return any(a in ("-h", "--help") or a.startswith("--help=") for a in arguments)


def worker_processes() -> "Pool":
    """One process a core, as a context: whatever ends it, Ctrl-C too, ends them."""
    from multiprocessing import Pool

    return Pool(initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
