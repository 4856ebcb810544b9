"""What commands share: the detection of ``--help``, and a pool of processes."""

import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.pool import Pool

AS_SERVER = "--as-server"
"""The flag with which ``seesaw worker`` starts the process that it supervises."""


def asks_for_help(arguments: Sequence[str]) -> bool:
    return any(a in ("-h", "--help") or a.startswith("--help=") for a in arguments)


def worker_processes() -> "Pool":
    """Return a pool of one process per core. Leaving its context ends them, also on Ctrl-C."""
    from multiprocessing import Pool

    return Pool(initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
