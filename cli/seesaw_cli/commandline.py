"""What commands share: parsers that refuse in one line, and processes that end with them."""

import argparse
import signal
from typing import TYPE_CHECKING, NoReturn

from seesaw_core.errors import InputError

if TYPE_CHECKING:
    from multiprocessing.pool import Pool

AS_SERVER = "--as-server"
"""Given by ``seesaw worker`` to the process that it supervises."""


class CommandParser(argparse.ArgumentParser):
    """Its description keeps its lines. Raises: InputError in place of printing its usage."""

    def __init__(self, prog: str, description: str | None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def worker_processes() -> "Pool":
    """One process a core, as a context: whatever ends it, Ctrl-C too, ends them."""
    from multiprocessing import Pool

    return Pool(initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
